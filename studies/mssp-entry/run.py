"""Run the study: files to panel to effects, strata, dollars and reliability."""

from vbceval.data import read_mssp
from vbceval.panel import EntryPanel
from vbceval.study import entry


def run(ctx):
    settings = ctx.settings
    level = settings["level"]

    with ctx.stage("read the CMS results files"):
        files = [*ctx.inputs["results"], *ctx.inputs["crosswalk"]]
        results = read_mssp(files, years=settings["years"])
        options = EntryPanel(**settings["panel"])
        panel = options.build(results)

    with ctx.stage("describe the sample"):
        ctx.section("Who is compared")
        entry.describe_sample(ctx, panel, results)

    with ctx.stage("estimate effects of entry"):
        ctx.section("Effect on spending")
        effects = entry.estimate_effects(ctx, panel, settings["effects"])

    with ctx.stage("compare enrollment types"):
        ctx.section("For whom")
        entry.show_strata(ctx, effects, **settings["strata"], level=level)

    with ctx.stage("repeat under other rules"):
        ctx.section("What the result depends on")
        variants = entry.compare_rules(ctx, effects, results, options, level=level)
        chained = EntryPanel(**{**settings["panel"], **settings["chained"]})
        entry.chain_later_years(ctx, effects, results, chained, level=level)

    ctx.section("How likely it is that spending fell")
    options = {**settings["bayes"], **settings["noise"]}
    posterior = entry.sample_posterior(ctx, effects, panel, options, level=level)

    with ctx.stage("turn effects into dollars"):
        ctx.section("Gross and net savings")
        account = entry.account(ctx, effects, panel, results, level=level)

    with ctx.stage("profile savings rates of ACOs"):
        ctx.section("Signal and luck in savings rates")
        options = {**settings["reliability"], **settings["noise"]}
        luck = entry.profile_acos(ctx, results, options, level=level)

    spoken = {"thresholds": settings["bayes"]["thresholds_percent"], "level": level}
    entry.state_results(
        ctx, effects, variants, posterior, account, luck, **settings["strata"], **spoken
    )
