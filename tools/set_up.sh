#!/bin/sh
# Make or update the environment .venv of this folder. Safe to run again, also after a kill.
#
# 1. Keep .venv if its interpreter still runs, it was made for this folder, and no earlier set-up
#    was cut short; otherwise make it anew with an interpreter that tools/find_python.sh has run.
# 2. Put `uv` into it with pip if it is absent. Inside the environment pip may install even where
#    the system's Python is marked as externally managed, and nothing has to be on PATH.
# 3. Install the package and its development tools at the versions of constraints.txt.
#
# .venv/.ready is written last and names the folder. PYTHON=/path/to/python chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."
here=$(pwd -P)
venv=.venv
python=$venv/bin/python
marker=.venv.working

say() { printf 'set-up: %s\n' "$*"; }

# The marker holds the number of the process at work; a run that ends early leaves it behind. The
# number alone proves nothing: it may be taken again, or belong to a dead process nobody collected.
if ! (set -C && echo $$ >"$marker") 2>/dev/null; then
    other=$(cat "$marker")
    case $(ps -o args= -p "${other:-0}" 2>/dev/null) in
    *set_up.sh*)
        say "process $other is at work in this folder. Wait for it, or delete $marker." >&2
        exit 1
        ;;
    esac
    say "an earlier set-up was cut short; making $venv afresh"
    rm -rf "$venv"
    echo $$ >"$marker"
fi

version() { "$python" -c 'import sys; print(*sys.version_info[:3], sep=".")' 2>/dev/null; }

reason=
if [ ! -e "$venv" ]; then
    reason="there is no $venv"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
    reason="$venv has no Python that runs and is 3.12 or newer"
elif [ -e "$venv/.ready" ] && [ "$(cat "$venv/.ready")" != "$here" ]; then
    reason="$venv was copied from $(cat "$venv/.ready")"
fi

if [ -n "$reason" ]; then
    base=$(sh tools/find_python.sh) || { rm -f "$marker"; exit 1; }
    say "$reason; making it with $base"
    rm -rf "$venv"
    "$base" -m venv "$venv"
fi
rm -f "$venv/.ready"
say "Python $(version) in $venv"

# An environment made by other tools may lack pip.
"$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip --upgrade
PIP_USER=0 "$python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
"$python" -m uv pip install --python "$python" --constraint constraints.txt \
    --build-constraint constraints.txt --compile-bytecode --editable '.[dev]'
"$python" -m uv pip check --python "$python"
"$python" -c 'import vbceval'

printf '%s\n' "$here" >"$venv/.ready"
rm -f "$marker"
say "done"
