import numpy as np
import pytest

from tfl_research.data import packaged
from tfl_research.tasks.built_in import shakespeare


@pytest.fixture(scope="module")
def task():
    return shakespeare.build()


def _decoded(ids):
    table = {i + 1: c for i, c in enumerate(shakespeare.CHARACTERS)}
    return "".join(table.get(int(i), "?") for i in ids)


def test_at_least_500_roles_of_37_plays_have_enough_text():
    roles = shakespeare.roles()
    assert len({role.split("/")[0] for role in roles}) == 37
    assert sum(len(text) >= 500 for text in roles.values()) >= 750
    assert 4_100_000 < sum(map(len, roles.values())) < 4_400_000


def test_well_known_lines_belong_to_those_who_speak_them():
    roles = shakespeare.roles()
    for role, line in {
        "hamlet/HAM": "To be, or not to be,--that is the question:--",
        "macbeth/LADY MACBETH": "Out, damned spot!",
        "romeo_and_juliet/JULIET": "wherefore art thou Romeo?",
        "julius_caesar/ANTONY": "lend me your ears",
        "midsummer_nights_dream/PUCK": "what fools these mortals be!",
        "coriolanus/CORIOLANUS": "Thanks.--What's the matter, you dissentious rogues",
        "richard_iii/KING RICHARD": "Now is the winter of our discontent",
    }.items():
        assert [r for r, text in roles.items() if line in text] == [role]


def test_no_directions_headings_or_licence_in_the_speech():
    for role, text in shakespeare.roles().items():
        for mark in ("[", "]", "{", "}", "Exeunt", "Gutenberg", "Etext", "SCENE "):
            assert mark not in text, (role, mark)
        assert not any(line.startswith("ACT ") for line in text.split("\n")), role
        assert "\n\n" not in text
        assert "  " not in text


def test_roles_are_not_groups_and_cues_of_one_person_are_joined():
    roles = shakespeare.roles()
    names = {role.split("/")[1] for role in roles}
    assert not names & {"ALL", "BOTH", "SONG", "EXEUNT", "II"}
    assert "richard_iii/GLOSTER" not in roles
    assert "henry_vi_part_2/GLOSTER" in roles
    # Cordelia ("Cor.") is not Cornwall ("Corn.").
    assert {"lear/COR", "lear/CORN"} <= set(roles)


def test_vocabulary():
    assert len(set(shakespeare.CHARACTERS)) == len(shakespeare.CHARACTERS) == 76
    ids = shakespeare.encode("\n Az~é")
    assert ids.dtype == np.int32
    assert ids.tolist() == [1, 2, 25, 76, 77, 77]
    text = 'To be, or not to be: that\'s 1 "Q"!'
    assert _decoded(shakespeare.encode(text)) == text


def test_windows_by_hand():
    ids = np.arange(1, 7, dtype=np.int32)
    examples = shakespeare.windows(ids, 4, 10)
    assert examples["x"].tolist() == [[1, 2, 3, 4], [2, 3, 4, 5]]
    assert examples["y"].tolist() == [5, 6]
    spread = shakespeare.windows(np.arange(12, dtype=np.int32), 2, 5)
    assert spread["y"].tolist() == [2, 4, 6, 8, 10]
    none = shakespeare.windows(ids[:4], 4, 10)
    assert none["x"].shape == (0, 4)
    assert none["y"].shape == (0,)


def test_sequences_by_hand():
    ids = np.arange(1, 7, dtype=np.int32)
    examples = shakespeare.sequences(ids, 3, 10)
    assert examples["x"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert examples["y"].tolist() == [[2, 3, 4], [5, 6, 0]]
    assert shakespeare.sequences(ids, 3, 1)["y"].tolist() == [[2, 3, 4]]
    assert shakespeare.sequences(ids[:1], 3, 10)["x"].shape == (0, 3)


def test_dense_examples(task):
    assert len(task.train) + len(task.held_out) >= 750
    assert task.train.client_ids == task.test.client_ids
    assert len(task.held_out) == round(0.1 * (len(task.train) + len(task.held_out)))
    assert not set(task.train.client_ids) & set(task.held_out.client_ids)
    for data in (task.train, task.test, task.held_out):
        assert data.specs["x"].shape == (10,)
        assert data.specs["x"].dtype == data.specs["y"].dtype == np.int32
        for _, examples in data.items():
            assert examples["x"].min() >= 1
            assert examples["y"].max() < shakespeare.VOCABULARY_SIZE
            assert 1 <= len(examples["y"]) <= 1000
    assert min(map(task.train.num_examples, task.train.client_ids)) >= 380
    assert max(map(task.test.num_examples, task.test.client_ids)) == 200


def test_the_most_frequent_character_is_the_space(task):
    y = np.concatenate([examples["y"] for _, examples in task.held_out.items()])
    assert np.bincount(y).argmax() == 2
    assert 0.15 < (y == 2).mean() < 0.18
    names = task.card.label_names
    assert len(names) == shakespeare.VOCABULARY_SIZE
    assert [names[i] for i in shakespeare.encode("\n Az~")] == [*"\n Az", "other"]


@pytest.mark.parametrize("model", ["dense", "lstm"])
def test_no_example_reaches_across_the_cut_in_time(model):
    task = shakespeare.build(model=model, maximum_examples=10**6, test_fraction=0.25)
    role = "timon_of_athens/POET"
    assert role in task.train.client_ids
    text = shakespeare.roles()[role]
    cut = len(text) - round(0.25 * len(text))

    def span(examples):
        if model == "dense":
            whole = [*examples["x"][0], *examples["y"]]
        else:
            whole = [examples["x"][0][0], *examples["y"].ravel()]
            whole = [i for i in whole if i != shakespeare.PAD_ID]
        return _decoded(whole)

    assert span(task.train.load(role)) == text[:cut]
    assert span(task.test.load(role)) == text[cut:]


def test_held_out_roles_are_a_function_of_the_seed(task):
    again = shakespeare.build()
    assert again.held_out.client_ids == task.held_out.client_ids
    role = task.train.client_ids[0]
    np.testing.assert_array_equal(
        again.train.load(role)["x"], task.train.load(role)["x"]
    )
    other = shakespeare.build(seed=1)
    assert other.held_out.client_ids != task.held_out.client_ids
    everyone = shakespeare.build(held_out_fraction=0.0)
    assert everyone.held_out is None
    assert set(everyone.train.client_ids) == {
        *task.train.client_ids,
        *task.held_out.client_ids,
    }


def test_options_choose_roles_and_examples():
    task = shakespeare.build(minimum_characters=20_000, maximum_examples=7, context=3)
    texts = shakespeare.roles()
    for data in (task.train, task.held_out):
        assert data.client_ids
        for role, examples in data.items():
            assert len(texts[role]) >= 20_000
            assert examples["x"].shape == (7, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "cnn"}, "model must be one of dense, lstm, got 'cnn'"),
        ({"context": 0}, "context must be at least 1, got 0"),
        ({"maximum_examples": -1}, "maximum_examples must be at least 1, got -1"),
        ({"test_fraction": 1.0}, "test_fraction must be at least 0"),
        ({"held_out_fraction": -0.5}, "held_out_fraction must be at least 0"),
        ({"minimum_characters": 10**9}, "no role has 1000000000 characters"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        shakespeare.build(**options)


def test_a_missing_package_names_the_fix(monkeypatch):
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    shakespeare.roles.cache_clear()
    with pytest.raises(ValueError, match=r"pip install 'tfl_research\[data\]'"):
        shakespeare.build()
    monkeypatch.undo()
    assert shakespeare.roles()


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (2, 78)),
        ({"model": "lstm", "lstm_units": 5, "lstm_layers": 2}, (2, 80, 78)),
    ],
)
def test_models_map_examples_to_logits(options, shape):
    task = shakespeare.build(minimum_characters=20_000, **options)
    examples = task.train.load(task.train.client_ids[0])
    model = task.build_model()
    logits = model(examples["x"][:2])
    assert logits.shape == shape
    assert not model.non_trainable_weights
    losses = task.build_objective().example_losses(examples["y"][:2], logits)
    assert losses.shape == (2,)
    # Untrained, the model is as good as a uniform guess among 78.
    np.testing.assert_allclose(losses, np.log(78), atol=0.5)


def test_the_dense_model_is_small():
    assert 5_000 <= shakespeare.build().build_model().count_params() <= 15_000
