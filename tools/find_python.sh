#!/bin/sh
# Print the path of a Python that can run this project, or say on stderr what to install.
#
# A candidate counts only after it has run: a version manager's shim may exist and fail, the
# default `python3` may be older, and some systems ship Python without the parts that make a
# virtual environment. PYTHON=/path/to/python, when set, is the only candidate.
set -u

scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
tried="$scratch/tried"
: >"$tried"

# Prints the base executable, so that a shim, or a candidate inside an active environment
# (perhaps the one about to be replaced), leads to the interpreter itself.
proof='
import sys
if sys.version_info < (3, 12):
    sys.exit("is Python %d.%d" % sys.version_info[:2])
import sysconfig
if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
    sys.exit("is not the standard build of CPython")
if sys.argv[1:] == ["tested"] and sys.version_info[:2] not in ((3, 12), (3, 13)):
    sys.exit("is newer than the Python versions that the pins were tested with")
import ctypes, ssl
print(getattr(sys, "_base_executable", None) or sys.executable)
'

# use_if_works CANDIDATE WHICH: print its interpreter and stop, or note why it cannot be used
use_if_works() {
    if ! found=$("$1" -c "$proof" "$2" 2>"$scratch/why" </dev/null); then
        echo "  $1: $(sed '/^[[:space:]]*$/d' "$scratch/why" | head -n 1)" >>"$tried"
        return
    fi
    rm -rf "$scratch/venv"
    if ! "$found" -m venv "$scratch/venv" >"$scratch/why" 2>&1 </dev/null ||
        ! "$scratch/venv/bin/python" -m pip --version >"$scratch/why" 2>&1 </dev/null; then
        echo "  $1: cannot make a virtual environment with pip" >>"$tried"
        return
    fi
    printf '%s\n' "$found"
    exit 0
}

if [ -n "${PYTHON:-}" ]; then
    use_if_works "$PYTHON" any
    { echo "PYTHON=$PYTHON cannot be used:"; cat "$tried"; } >&2
    exit 1
fi

for which in tested any; do
    : >"$tried"
    for name in python3.13 python3.12 python3; do
        command -v "$name" >/dev/null 2>&1 && use_if_works "$name" "$which"
    done
    for candidate in ${PYENV_ROOT:+"$PYENV_ROOT"/versions/*/bin/python} \
        "${HOME:-}"/.pyenv/versions/*/bin/python; do
        [ -x "$candidate" ] && use_if_works "$candidate" "$which"
    done
done

{
    echo "No usable Python was found; vbceval needs CPython 3.12 or 3.13 with venv. Tried:"
    if [ -s "$tried" ]; then sort -u "$tried"; else echo "  no candidate exists"; fi
    cat <<'EOM'
Install one of them and run the command again:
  Debian, Ubuntu   apt install python3.12 python3.12-venv
  Fedora           dnf install python3.12
  macOS            brew install python@3.13
  pyenv            pyenv install 3.13
or name the interpreter: make setup PYTHON=/path/to/python3.13
EOM
} >&2
exit 1
