"""What a report says of parts, draws, rebuilt pictures, certificates and undeclared labels."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rebuilt_fakes import CLIPPED, DROPPED, everything, scanned
from report_fakes import ONE_DRAW, audit, pictures, realistic, record, write_run
from rich.console import Console

from veil.errors import VeilError
from veil.records import Audit, Certificate, Record
from veil.report import comparison, print_audit, verdict, view, write_report
from veil.report.columns import columns
from veil.report.verdicts import certificates, claim, sentences

NONE = Certificate(kind="none", bound=None, assumption="nothing is proved about this release")


def printed(given: Audit) -> str:
    screen = Console(file=StringIO(), width=100, force_terminal=False, color_system=None)
    print_audit(given, screen)
    assert isinstance(screen.file, StringIO)
    return screen.file.getvalue()


def html(folder: Path, *audits: Audit) -> str:
    runs = [write_run(folder / f"run{i}", given) for i, given in enumerate(audits)]
    write_report(runs, folder / "report.html")
    return folder.joinpath("report.html").read_text("utf-8")


def part(name: str, score: float, **given: Any) -> Record:
    return record(name, score, interval=(score - 0.03, score + 0.03), n=400, **given)


def test_a_verdict_of_many_targets_is_a_sentence_each_with_the_main_ones_first() -> None:
    given = everything()
    said = sentences(given)
    starts = ["Leaks Male", "Leaks Young", "Leaks age", "Leaks identity", "Pictures are rebuilt"]
    starts += ["Keeps Smiling", "Leaks to suite 'standard', of several labels", "A scan finds 5 of"]
    assert [s[: len(start)] for s, start in zip(said, starts, strict=True)] == starts
    assert sentences(realistic("AIA")) == [claim(realistic("AIA"))]


def test_a_subgroup_is_named_where_it_leaks_measurably_more() -> None:
    more, less = part("Male where Young=no", 0.85), part("Male where Young=yes", 0.72)
    said = verdict(audit("x", record("Male", 0.75), more, less))
    assert "and more where Young=no: at least 0.85 (95 % interval 0.82–0.88, n=400)" in said
    assert "Young=yes" not in said
    within = part("Male where Young=no", 0.78)  # 0.75-0.81 meets the whole's 0.735-0.765
    said = verdict(audit("x", record("Male", 0.75), within, less))
    assert said.endswith("ceiling 0.95, not measurably more in any of 2 subgroups.")


def test_a_subgroup_above_the_floor_is_named_beside_a_label_that_is_not_broken() -> None:
    leaking, not_broken = part("s where g=1", 0.56), part("s where g=0", 0.51)
    said = verdict(audit("x", record("s", 0.505), leaking, not_broken))
    assert said.startswith("Not broken on s by")
    assert "but above the floor in 1 of 2 subgroups: where g=1: at least 0.56" in said
    said = verdict(audit("x", record("s", 0.505), not_broken))
    assert said.endswith(", nor in any of 1 subgroup.")


def test_parts_are_told_from_labels_that_stand_for_themselves() -> None:
    rows = [record(n, 0.7) for n in ("Male", "Young", "Male where Young=no", "Male+Young", "A+B")]
    useful = [record(n, 0.8, kind="utility") for n in ("Young where", "Young+Male")]
    given = audit("x", *rows, *useful)
    assert view.attacked([given]) == ["Male", "Young", "A+B"]
    assert view.subgroups(given, "Male") == ["Male where Young=no"]
    assert view.combinations(given) == ["Male+Young"]


def test_equivalence_to_the_floor_is_said_and_never_understated() -> None:
    scores = {"equivalent_within": 0.0301}
    said = verdict(audit("x", record("Male", 0.51, scores=scores)))
    assert "n=3,000), within 0.04 of the floor (equivalence test at 5 %), floor 0.50" in said
    assert "equivalence" not in verdict(audit("x", record("Male", 0.7, scores=scores)))


def test_rebuilt_pictures_are_set_beside_the_mean_face_and_the_originals() -> None:
    (said,) = [s for s in sentences(everything()) if s.startswith("Pictures")]
    assert said == (
        "Pictures are rebuilt at SSIM 0.62 at least by suite 'standard' (95 % interval 0.60–0.64, "
        "n=512; mean face 0.31); rebuilt faces are recognised at EER 0.12 (impostor floor 0.50, "
        "originals 0.04) and give Male back at 0.91 (mean face 0.50, originals 0.96)."
    )


def test_pictures_no_better_than_the_mean_face_are_not_said_to_be_rebuilt() -> None:
    given = record(
        "reconstruction", 0.31, kind="reconstruction", metric="ssim", floor=0.31, ceiling=None
    )
    said = verdict(audit("x", given))
    assert said == (
        "Pictures are rebuilt no better than by the mean face by suite 'standard': SSIM 0.31 "
        "(95 % interval 0.29–0.33, n=3,000; mean face 0.31)."
    )
    beside = audit("Original", given.model_copy(update={"score": 0.8, "interval": (0.78, 0.82)}))
    assert comparison([beside, audit("Mine", given)]) == (
        "Mine is not broken on reconstruction (0.31 SSIM; Original 0.80)."
    )


def test_a_certificate_never_stands_without_its_assumption() -> None:
    given = everything()
    stated = certificates(given)
    # 0.73051 is shown as 0.731 and 4.3771 as 4.38: a bound from above is rounded up.
    assert stated[0].startswith(
        f"Certified at most 0.731 on any binary label, whoever attacks, if {CLIPPED}"
    )
    assert stated[0].endswith("ε = 4.38, δ = 1e-05.")
    assert stated[1].startswith("Linear guardedness of Male: no accuracy is bounded")
    assert f"; certified if {CLIPPED}; doubts" in verdict(given)
    alone = audit("x", record("Male", 0.6, certified=0.7304, assumption="noise is added"))
    assert "certified at most 0.731 if noise is added" in claim(alone)
    assert verdict(alone).count("noise is added") == 1


def test_that_nothing_is_certified_is_said_plainly(tmp_path: Path) -> None:
    given = audit("x", record("Male", 0.7)).model_copy(update={"certificates": (NONE,)})
    plain = "Nothing is certified: nothing is proved about this release."
    assert plain in printed(given)
    assert plain in html(tmp_path, given)
    assert certificates(given.model_copy(update={"verdict": "refused"})) == []
    assert "ertified" not in printed(realistic("AIA"))


def test_a_scan_puts_labels_above_their_floor_first_and_counts_the_others(tmp_path: Path) -> None:
    labels = scanned(3, 20)
    given = audit("x", record("Male", 0.7)).model_copy(update={"scan": labels[3:] + labels[:3]})
    text = printed(given)
    rows = [line for line in text.splitlines() if line[3:].startswith("Undeclared")]
    assert len(rows) == 10
    assert [row[0] for row in rows] == [">"] * 3 + [" "] * 7
    assert "leaks though nobody declared it: 3 of 23" in text
    assert "and 13 others, none above its floor" in text
    assert "intervals at 99.78% each" in text
    assert "a scan finds 3 of 23 labels that nobody declared above the floor" in verdict(given)
    page = html(tmp_path, given)
    shown, folded = page.split("20 whose interval reaches the floor")
    assert all(f"Undeclared_{i:02}<" in (shown if i < 3 else folded) for i in range(23))


def test_a_scan_that_finds_more_than_it_shows_says_so() -> None:
    given = audit("x", record("Male", 0.7)).model_copy(update={"scan": scanned(5, 0) * 3})
    assert "and 5 others, 5 of them above the floor" in printed(given)


def test_a_scan_that_finds_nothing_claims_no_more_than_that(tmp_path: Path) -> None:
    given = audit("x", record("Male", 0.7)).model_copy(update={"scan": scanned(0, 4)})
    assert "a scan finds none of 4 labels that nobody declared above its floor" in verdict(given)
    assert "leaks though" not in printed(given)
    assert "None of 4 has an interval above its floor." in html(tmp_path, given)


def test_dropped_attackers_are_marked_and_come_after_those_that_ran_in_full(
    tmp_path: Path,
) -> None:
    rows = [
        record("Male", 0.7, attack="worst", select=0.7),
        record("Male", 0.6, attack="screened", select=0.9, config=DROPPED),
        record("Male", 0.6, attack="in full", select=0.6),
        record("Smiling", 0.8, attack="a", kind="utility", select=0.9, config=DROPPED),
        record("Smiling", 0.7, attack="b", kind="utility", select=0.8),
    ]
    given = audit("x", *rows)
    assert [r.attack for r in view.attackers(given, "Male")] == ["worst", "in full", "screened"]
    head = view.fresh_head(given, "Smiling")
    assert head is not None
    assert head.attack == "b"
    text = printed(given)
    assert "~  screened" in text
    assert text.count("dropped on select, after 25% of its releases and time") == 1
    assert "~</span> screened" in html(tmp_path, given)
    assert "dropped" not in printed(realistic("AIA"))


def test_leakage_by_draws_is_of_the_worst_attacker_alone(tmp_path: Path) -> None:
    given = everything()
    found = [(draws, r.score) for draws, r in view.by_draws(given, "Male")]
    assert found == [(1, 0.55), (4, 0.6), (16, 0.67), (50, 0.72)]
    both = record("s", 0.8, attack="mlp, mean and deviation of 4 draws", config={"draws": 4})
    mean = record("s", 0.7, attack="mlp, mean of 4 draws", config={"draws": 4})
    other = record("s", 0.7, attack="mlp 64", config={"draws": 1})
    single = record("s", 0.6, attack="mlp", config={"draws": 1})
    of_means = view.by_draws(audit("x", both, other, mean, single), "s")
    assert [(draws, r.score) for draws, r in of_means] == [(1, 0.6), (4, 0.7)]
    assert view.by_draws(given, "Young") == []
    page = html(tmp_path, given)
    assert page.count("by number of draws averaged</h4>") == 1  # Male alone


def test_columns_are_those_of_the_kind_and_the_rest_is_below(tmp_path: Path) -> None:
    given = everything()
    shown = {name: columns(view.attackers(given, name)) for name in view.attacked([given])}
    assert shown["Male"] == ["accuracy", "auc", "mcc", "tpr_at_fpr_0.01", "train"]
    assert shown["identity"] == ["auc", "eer", "tar_at_far_0.01", "rank1"]
    assert shown["age"] == ["mae", "correlation", "train"]
    assert shown["reconstruction"][0] == "psnr"
    assert shown["reconstruction"][-1] == "read_back:Male"
    page = html(tmp_path, given)
    assert '<th scope="row">accuracy, 95 % interval</th><td>0.720–0.760</td>' in page
    assert "below 0.001" in page
    assert "accuracy_low" not in page
    assert "<td>18.3</td>" in page  # PSNR in dB
    assert "<td>0.960</td>" in page  # Male read back from the originals, which have no score


def test_everything_fits_in_100_columns() -> None:
    lines = printed(everything()).splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.startswith(">  Male where Young=no") for line in lines)
    assert not any("None" in line or "nan" in line.split() for line in lines)


def test_doubts_name_their_target_where_several_are_attacked() -> None:
    rows = [record(name, 0.7, doubts=(ONE_DRAW,)) for name in ("Male", "Young")]
    both, one = printed(audit("x", *rows)), printed(audit("x", rows[0]))
    assert [f"one-draw ({name}): A random" in both for name in ("Male", "Young")] == [True, True]
    assert "Other doubts" not in both
    assert "one-draw: A random" in one


def test_many_targets_stand_below_one_another_and_few_side_by_side(tmp_path: Path) -> None:
    tmp_path.joinpath("a").mkdir()
    tmp_path.joinpath("b").mkdir()
    many, few = html(tmp_path / "a", everything()), html(tmp_path / "b", realistic("AIA"))
    assert 'class="group"' in few
    assert 'class="group"' not in many
    assert "Certified ≤" in many
    assert "Certified ≤" not in few


def test_an_attackers_pictures_are_rows_of_their_own(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", everything())
    own, others = pictures(count=8), pictures(count=5)
    attacked = {"attacked": others["reconstruction"], "attacked_original": others["original"]}
    np.savez(run / "samples.npz", original=own["original"], **attacked)  # type: ignore[arg-type]
    write_report([run], tmp_path / "report.html")
    page = tmp_path.joinpath("report.html").read_text("utf-8")
    assert page.count("<img") == 8 + 5 + 5
    assert page.index("Original (attacked)") < page.index("Attacker&#39;s reconstruction")
    attacked["attacked"] = attacked["attacked"][:4]
    np.savez(run / "samples.npz", original=own["original"], **attacked)  # type: ignore[arg-type]
    with pytest.raises(VeilError, match="attacked_original 5, attacked 4"):
        write_report([run], tmp_path / "report.html")


def test_new_names_are_text_and_never_markup(tmp_path: Path) -> None:
    evil = "<script>[bold]</script>"
    rows = [
        record(evil, 0.7, attack=evil, config={"draws": 1} | DROPPED, scores={evil: 0.5}),
        record(evil, 0.8, attack=f"{evil}, mean of 4 draws", config={"draws": 4}),
        part(f"{evil} where {evil}", 0.9),
    ]
    scan = tuple(r.model_copy(update={"target": evil}) for r in scanned(1, 1))
    proof = NONE.model_copy(update={"assumption": evil})
    given = audit("x", *rows).model_copy(update={"scan": scan, "certificates": (proof,)})
    assert "<script" not in html(tmp_path, given)
    assert printed(given).count("[bold]") >= 6


def test_no_sentence_promises_what_no_audit_can_show() -> None:
    for said in (verdict(everything()), *certificates(everything())):
        assert not any(word in said for word in ("anonym", "secure", "private", "None", "nan "))
