"""From guesses to records: the seed is chosen on select; floors and bits have closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from small_evidence import Array, divided, made_up
from veil.attacks.attack import Guess
from veil.evidence import Evidence
from veil.metrics import balanced_accuracy
from veil.scoring import (
    balanced,
    balanced_bits,
    balanced_bits_low,
    class_record,
    floor_records,
    gain,
    log_softmax,
    matching_record,
    own_head_record,
    with_floor_tests,
)
from veil.statistics import clopper_pearson, floor_tests

N = 400
RNG = np.random.default_rng(2)
S = np.where(RNG.random(N) < 0.3, 1, 0)
NOISE = RNG.normal(size=(N, 3))


def sure(classes: Array, k: int = 2, p: float = 0.9) -> Array:
    """(n, k) log-probabilities that name these classes with probability p."""
    rest = (1 - p) / (k - 1)
    return np.log(np.where(np.eye(k)[classes] == 1, p, rest)).astype(np.float32)


def wrong(share: float) -> Array:
    """S with the first `share` of the rows of every split turned round."""
    turned = [np.arange(len(part)) < share * len(part) for part in divided(S).values()]
    return S ^ np.concatenate(turned)


def guess(attack: Array, select: Array, test: Array) -> Guess:
    return Guess(
        sure(divided(attack)["attack"]),
        sure(divided(select)["select"]),
        sure(divided(test)["test"]),
    )


def test_the_seed_is_chosen_on_select_and_test_is_scored_once() -> None:
    """The second run is better on select and worse on test: its test score is the record's."""
    first, second = guess(S, wrong(0.3), S), guess(S, wrong(0.1), wrong(0.4))
    evidence = made_up(NOISE, S)
    record = class_record(evidence, "s", "attribute", "a", "f", [first, second], 0)
    on_select = [balanced(g.select, divided(S)["select"]) for g in (first, second)]
    expected = balanced_accuracy(divided(S)["test"], divided(wrong(0.4))["test"])
    assert record.select == on_select[1] == max(on_select)
    assert record.score == expected
    assert record.spread == pytest.approx(abs(on_select[0] - on_select[1]) / 2)
    assert (record.seeds, record.n, record.scores["train"]) == (2, N * 3 // 10, 1.0)
    assert record.interval is not None
    assert record.interval[0] < expected < record.interval[1]
    alone = class_record(evidence, "s", "attribute", "a", "f", [second], 0)
    assert (alone.score, alone.spread) == (expected, None)


def test_the_interval_is_wider_where_photos_share_their_person() -> None:
    """Ten photos of a person are guessed alike, so there are ten times fewer units."""
    s = np.repeat(RNG.integers(0, 2, N // 10), 10)
    right = np.repeat(RNG.random(N // 10) < 0.7, 10)
    said = np.where(right, s, 1 - s)
    one = Guess(*(sure(part) for part in divided(said).values()))

    def width(evidence: Evidence) -> float:
        record = class_record(evidence, "s", "attribute", "a", "f", [one], 0)
        assert record.interval is not None
        return record.interval[1] - record.interval[0]

    people = np.repeat(np.arange(N // 10), 10)
    known = width(made_up(NOISE, s, identity=people))
    assert known > 2 * width(made_up(NOISE, s))


def test_bits_are_those_of_a_binary_symmetric_channel() -> None:
    """Right with probability p and saying so: 1 - H(p); boasting shows nothing at all."""
    s = np.array([0, 1] * 500)
    said = np.where(np.arange(1000) % 10 < 2, 1 - s, s)
    h = -(0.8 * np.log2(0.8) + 0.2 * np.log2(0.2))
    assert balanced_bits(sure(said, p=0.8), s) == pytest.approx(1 - h, abs=1e-6)
    assert balanced_bits(sure(said, p=0.9999), s) == 0.0
    assert balanced_bits(sure(s, p=1 - 1e-6), s) == pytest.approx(1, abs=1e-4)


def test_bits_count_a_rare_class_as_much_as_a_common_one() -> None:
    s = np.array([0] * 90 + [1] * 10)
    assert balanced_bits(sure(np.zeros(100, int), p=0.9), s) == 0.0
    assert balanced_bits(sure(s, k=4, p=0.97), s) == pytest.approx(1 + np.log2(0.97), abs=1e-5)


def test_the_lower_bound_of_bits_equals_a_slow_loop() -> None:
    """60 people, three classes: the linearised variance, person by person."""
    people = np.repeat(np.arange(60), 3)
    s = people % 3
    said = np.where(RNG.random(180) < 0.25, (s + 1) % 3, s)
    log_p = np.log(np.where(np.eye(3)[said] == 1, 0.7, [0.1, 0.15, 0.2])).astype(np.float64)
    log_p -= np.logaddexp.reduce(log_p, axis=1, keepdims=True)
    mean, parts = [], []
    for k in range(3):
        rows = np.flatnonzero(s == k)
        of = {p: [-log_p[i, k] / np.log(2) for i in rows if people[i] == p] for p in people[rows]}
        wrong = [-max(log_p[i, j] for j in range(3) if j != k) / np.log(2) for i in rows]
        of[100 + k] = [float(np.mean(wrong))] * 3
        total = sum(len(losses) for losses in of.values())
        mean.append(sum(map(sum, of.values())) / total)
        parts.append([sum(x - mean[k] for x in losses) / total / 3 for losses in of.values()])
    of_class = np.square(parts).sum(axis=1)
    freedom = of_class.sum() ** 2 / (of_class**2 / 19).sum()
    reach = t.ppf(0.95, freedom) * np.sqrt(of_class.sum() * 61 / 60)
    expected = np.log2(3) - np.mean(mean) - reach
    found = balanced_bits_low(log_p.astype(np.float32), s, people)
    assert found == pytest.approx(expected, abs=1e-5)
    assert 0 < found < balanced_bits(log_p.astype(np.float32), s)


def test_few_rows_and_boasts_prove_few_bits() -> None:
    s = np.array([0, 1] * 15)
    assert balanced_bits(sure(s, p=1 - 1e-6), s) == pytest.approx(1, abs=1e-4)
    assert balanced_bits_low(sure(s, p=1 - 1e-6), s, None) == 0.0
    assert balanced_bits_low(sure(np.tile(s, 200), p=0.99), np.tile(s, 200), None) > 0.9
    impossible = np.where(np.eye(2)[s ^ (np.arange(30) < 2)] == 1, 0.0, -np.inf)
    assert balanced_bits_low(impossible.astype(np.float32), s, None) == 0.0


def test_a_record_carries_the_intervals_of_accuracy_and_auc() -> None:
    """Exact where nobody is known; wider where ten photos share their person."""
    evidence = made_up(NOISE, S)
    one = guess(S, S, wrong(0.2))
    found = class_record(evidence, "s", "attribute", "a", "f", [one], 0).scores
    low, high = clopper_pearson(96, 120)
    assert (found["accuracy_low"], found["accuracy_high"]) == (low, high)
    people = np.repeat(np.arange(N // 10), 10)
    known = class_record(
        made_up(NOISE, S, identity=people), "s", "attribute", "a", "f", [one], 0
    ).scores
    for name in ("accuracy", "auc"):
        ends, wide = ([x[f"{name}_low"], x[name], x[f"{name}_high"]] for x in (found, known))
        assert ends == sorted(ends)  # type: ignore[type-var]
        assert wide == sorted(wide)  # type: ignore[type-var]
        assert wide[0] < ends[0]  # type: ignore[operator]
    assert found["bits_low"] == balanced_bits_low(one.test, divided(S)["test"], None)


def test_floor_tests_join_the_record_with_its_floor() -> None:
    record = class_record(
        made_up(NOISE, S), "s", "attribute", "a", "f", [guess(S, S, wrong(0.2))], 0
    )
    assert record.interval is not None
    assert record.score is not None
    for floor in (0.5, record.score, 0.9):
        found = with_floor_tests(record, floor)
        tests = (found.scores["p_above_floor"], found.scores["equivalent_within"])
        assert tests == floor_tests(record.interval, record.score, floor)
        assert found == record.model_copy(update={"floor": floor, "scores": found.scores})
        assert set(found.scores) - set(record.scores) == {"p_above_floor", "equivalent_within"}
    assert "p_above_floor" not in record.scores
    silent = with_floor_tests(record.model_copy(update={"interval": None}), 0.5)
    assert (silent.floor, silent.scores) == (0.5, record.scores)


def slow_floors(s: Array, y: Array, answer: Array) -> tuple[float, float]:
    """Label-only and copy floor by loops over classes."""
    learn = slice(0, int(0.7 * N))
    test = slice(int(0.7 * N), N)
    to_s = {}
    for k in np.unique(y):
        likely = [np.mean(y[learn][s[learn] == c] == k) for c in np.unique(s)]
        to_s[k] = int(np.argmax(likely))
    agree, useful = [], []
    for c in np.unique(s[test]):
        rows = s[test] == c
        agree.append(np.mean([to_s[k] == c for k in y[test][rows]]))
        useful.append(np.mean(answer[test][rows] == y[test][rows]))
    return float(np.mean(agree)), float(np.mean(agree) - (1 - np.mean(useful)))


def test_floors_equal_slow_loops() -> None:
    y = (S + (RNG.random(N) < 0.25) + (RNG.random(N) < 0.1)) % 3
    answer = np.where(RNG.random(N) < 0.05, (y + 1) % 3, y)
    answers = {"y": divided(np.eye(3, dtype=np.float32)[answer])}
    known = floor_records(replace(made_up(NOISE, S, y=y), answers=answers), "s")
    label_only, copy = slow_floors(S, y, answer)
    assert known["majority"].score == 0.5
    assert known["label only"].score == pytest.approx(label_only)
    assert known["copy floor"].score == pytest.approx(copy)
    assert {record.family for record in known.values()} == {"floor"}
    assert set(floor_records(made_up(NOISE, S, y=y), "s")) == {"majority", "label only"}
    assert set(floor_records(made_up(NOISE, S), "s")) == {"majority"}


def test_of_several_useful_labels_the_highest_floor_counts() -> None:
    near, far = S ^ (RNG.random(N) < 0.1), RNG.integers(0, 2, N)
    both = {"near": near, "far": far}

    def floor(*utility: str) -> float:
        evidence = made_up(NOISE, S, more=both, utility=utility)
        return floor_records(evidence, "s")["label only"].score or 0.0

    assert floor("near", "far") == floor("far", "near") == floor("near") > floor("far")


def test_the_own_head_is_scored_as_it_came() -> None:
    y = RNG.integers(0, 3, N)
    logits = 5 * np.eye(3, dtype=np.float32)[np.where(RNG.random(N) < 0.3, (y + 1) % 3, y)]
    evidence = replace(made_up(NOISE, S, y=y), answers={"y": divided(logits)})
    record = own_head_record(evidence, "y", 0)
    expected = balanced_accuracy(divided(y)["test"], divided(logits.argmax(1))["test"])
    assert (record.score, record.kind, record.attack) == (expected, "utility", "own head")


def test_gain_is_normalised_accuracy_above_the_majority() -> None:
    evidence = made_up(NOISE, S)
    weak, clean = (
        class_record(evidence, "s", "attribute", "a", "f", [guess(S, S, wrong(w))], 0)
        for w in (0.1, 0.0)
    )
    majority = np.mean(divided(S)["test"] == 0)
    accuracy = np.mean(divided(wrong(0.1))["test"] == divided(S)["test"])
    found = gain(evidence, "s", weak, clean)
    assert found == pytest.approx((accuracy - majority) / (1 - majority))
    assert gain(evidence, "s", clean, clean) == 1.0
    assert gain(evidence, "s", weak, None) is None


def test_matching_is_scored_on_pairs_of_test_at_the_threshold_of_select() -> None:
    people = np.repeat(np.arange(N // 4), 4)
    centre = RNG.normal(size=(N // 4, 8))[people]
    good = centre + 0.05 * RNG.normal(size=centre.shape)

    def matcher(embedding: Array) -> Guess:
        return Guess(*(part.astype(np.float32) for part in divided(embedding).values()))

    identity = divided(people)
    found = matching_record(
        identity, "identity", "m", "f", [matcher(RNG.normal(size=good.shape)), matcher(good)], 0
    )
    assert found.score == 1.0
    assert found.target == "identity"
    assert found.metric == "verification_accuracy"
    assert found.spread is not None
    assert found.spread > 0.1
    useless = matching_record(identity, "identity", "m", "f", [matcher(RNG.normal(size=(N, 8)))], 0)
    assert useless.interval is not None
    assert useless.interval[0] <= 0.5 <= useless.interval[1]


def test_log_softmax_is_normalised_and_keeps_the_order() -> None:
    logits = RNG.normal(size=(10, 4)).astype(np.float32) * 50
    log_p = log_softmax(logits)
    assert np.allclose(np.exp(log_p).sum(1), 1, atol=1e-5)
    assert np.array_equal(log_p.argsort(1), logits.argsort(1))
