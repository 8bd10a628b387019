"""The logs that are shipped with a model tell all stages of its training, each once."""

import publish_model


def stage(*steps, loss=1.0):
    return "".join(f'{{"step": {step}, "loss": {loss}}}\n' for step in steps)


def test_the_first_log_is_shipped_as_it_is():
    assert publish_model.joined("", stage(50, 100)) == stage(50, 100)


def test_a_run_that_went_on_replaces_its_own_beginning():
    assert publish_model.joined(stage(50, 100), stage(50, 100, 150)) == stage(50, 100, 150)


def test_a_new_stage_comes_after_those_before():
    first, second = stage(50, 100), stage(50, 100, loss=0.5)
    assert publish_model.joined(first, second) == first + second
    longer = stage(50, 100, 150, loss=0.5)
    assert publish_model.joined(first + second, longer) == first + longer


def test_a_log_that_already_holds_several_stages_is_not_told_twice():
    both = stage(50, 100) + stage(50, 100, loss=0.5)
    assert publish_model.joined(both, both) == both
    assert publish_model.joined(stage(50, 100, loss=2.0) + both, both) == stage(50, 100, loss=2.0) + both


def test_the_log_of_train_all_is_shipped_as_it_is_and_takes_the_place_of_an_older_models(tmp_path):
    both = stage(50, 100) + stage(50, loss=0.5)
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "unet.jsonl").write_text(both)
    assert publish_model.log_of(tmp_path, "unet", stage(50, loss=2.0)) == both


def test_without_it_the_last_run_is_told_after_what_was_shipped(tmp_path):
    assert publish_model.log_of(tmp_path, "unet", stage(50)) == ""
    (tmp_path / "training" / "unet").mkdir(parents=True)
    (tmp_path / "training" / "unet" / "log.jsonl").write_text(stage(50, loss=0.5))
    assert publish_model.log_of(tmp_path, "unet", stage(50)) == stage(50) + stage(50, loss=0.5)


def test_a_run_by_hand_after_train_all_is_told_after_it(tmp_path):
    (tmp_path / "training" / "unet").mkdir(parents=True)
    (tmp_path / "training" / "unet.jsonl").write_text(stage(50, 100))
    (tmp_path / "training" / "unet" / "log.jsonl").write_text(stage(50, loss=0.5))
    assert publish_model.log_of(tmp_path, "unet", stage(50, loss=2.0)) == stage(50, 100) + stage(50, loss=0.5)


def test_a_run_that_has_not_logged_yet_adds_nothing(tmp_path):
    (tmp_path / "training" / "unet").mkdir(parents=True)
    (tmp_path / "training" / "unet" / "log.jsonl").write_text("")
    assert publish_model.log_of(tmp_path, "unet", stage(50)) == ""


def test_an_unfinished_stage_of_train_all_is_not_told(tmp_path):
    """The weights are those of the stage before."""
    (tmp_path / "training" / "unet").mkdir(parents=True)
    (tmp_path / "training" / "unet.jsonl").write_text(stage(50, 100))
    (tmp_path / "training" / "unet" / "log.jsonl").write_text(stage(50, loss=0.5))
    (tmp_path / "training" / "unet" / "settings.json").write_text("{}")
    assert publish_model.log_of(tmp_path, "unet", "") == stage(50, 100)
