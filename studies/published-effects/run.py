"""Run the study: printed numbers, their consistency, the analysis set, the synthesis, net savings."""

from vbceval.evidence import read_facts, read_relations
from vbceval.study import pooled


def run(ctx):
    settings = ctx.settings
    level, predicted = settings["level"], settings["predicted"]
    thresholds = settings["thresholds"]

    with ctx.stage("read the printed results"):
        facts = read_facts(ctx.inputs["facts"][0])
        relations = read_relations(ctx.inputs["relations"][0])

    with ctx.stage("compare printed numbers that must agree"):
        ctx.section("Do the printed numbers agree?")
        findings = pooled.check_printed(ctx, facts, relations)

    with ctx.stage("select effects on total spending"):
        ctx.section("Which results are analysed")
        effects = pooled.select_effects(ctx, facts)

    with ctx.stage("pool effects by program type"):
        ctx.section("Effects by program type")
        options = {**settings["model"], "predicted": predicted}
        fit = pooled.pool(ctx, effects, options, level=level)

    with ctx.stage("predict new programs"):
        ctx.section("What to expect of a new program")
        chances = pooled.predict(ctx, fit, thresholds=thresholds, predicted=predicted)

    with ctx.stage("set effects against payments"):
        ctx.section("Net of what is paid to participants")
        net = pooled.net_savings(ctx, fit, facts, relations, settings["net"], level=level)

    ctx.section("What the result depends on")
    options = {**settings["sensitivity"], "shown": predicted}
    runs = pooled.vary(ctx, fit, facts, options, thresholds=thresholds, level=level)

    with ctx.stage("check the draws and a simpler model"):
        ctx.section("Checks of the calculation")
        pooled.check_draws(ctx, fit, level=level)

    ctx.section("Every printed result")
    pooled.list_screened(ctx, facts)

    spoken = {"predicted": predicted, "thresholds": thresholds, "level": level}
    pooled.state_results(ctx, facts, findings, fit, chances, net, runs, **spoken)
