import re
from pathlib import Path

import pytest

from lib.mdal.selection.strategies import STRATEGIES
from lib.pipeline.settings import GONE, SECTIONS, AppSettings, as_conf, read_settings, unit_of
from lib.runtime.errors import UserError


def test_values_from_the_command_line_become_what_they_mean() -> None:
    settings = read_settings(
        {
            "modalities": "ADC, PERF",
            "ct_window": "-100,300",
            "follow_links": "true",
            "prefetch": "3",
            "server_mode": "true",
        }
    )
    assert settings.modalities == ("ADC", "PERF")
    assert settings.ct_window == (-100.0, 300.0)
    assert settings.follow_links is True
    assert settings.prefetch == 3


def test_a_key_with_a_slip_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"layuot is not a key of this app. Did you mean layout\?"):
        read_settings({"layuot": "auto"})


def test_every_group_of_settings_begins_with_a_key_that_exists() -> None:
    assert SECTIONS.keys() <= AppSettings.model_fields.keys()
    assert next(iter(SECTIONS)) == next(iter(AppSettings.model_fields))


def test_an_unknown_key_is_refused_with_the_list() -> None:
    with pytest.raises(UserError, match="wibble is not a key") as caught:
        read_settings({"wibble": "1"})
    assert all(key in str(caught.value) for key in AppSettings.model_fields)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prefetch", "-1"),
        ("disk_gb", "-1"),
        ("study_labels", "maybe"),
        ("ct_window", "5"),
        ("seed", "x"),
        ("scoring", "huge"),
        ("upload_gb", "0"),
    ],
)
def test_a_value_that_does_not_fit_says_what_the_key_means_and_what_was_received(
    key: str, value: str
) -> None:
    with pytest.raises(UserError, match=f"--conf {key} must be: ") as caught:
        read_settings({key: value})
    assert value in str(caught.value)


@pytest.mark.parametrize("budget", ["", "20", "20%", "0.2", "plateau"])
def test_a_budget_is_kept_as_it_was_written(budget: str) -> None:
    assert read_settings({"budget": budget}).budget == budget


@pytest.mark.parametrize("budget", ["0", "150%", "some"])
def test_a_budget_that_is_none_is_refused_with_what_it_may_be(budget: str) -> None:
    with pytest.raises(UserError, match="--conf budget must be a number of cases") as caught:
        read_settings({"budget": budget})
    assert repr(budget) in str(caught.value)


def test_the_default_strategy_is_one_of_those_that_are_offered() -> None:
    assert AppSettings().strategy in STRATEGIES
    assert read_settings({"strategy": "kmeans"}).strategy == "kmeans"
    with pytest.raises(
        UserError, match="--conf strategy must be one of mdal, diversemd, representative, kmeans, strat"
    ) as caught:
        read_settings({"strategy": "typiclust"})
    assert "got 'typiclust'" in str(caught.value)


@pytest.mark.parametrize("key", GONE)
def test_a_key_of_earlier_releases_is_refused_with_what_replaces_it(key: str) -> None:
    assert key not in AppSettings.model_fields
    with pytest.raises(UserError, match=f"--conf {key} is no longer a key of this app. [A-Z]") as caught:
        read_settings({key: "1"})
    named = re.findall(r"--conf (\w+)", str(caught.value))[1:]
    assert set(named) <= AppSettings.model_fields.keys()


@pytest.mark.parametrize("key", AppSettings.model_fields)
def test_every_setting_is_named_by_a_test_of_what_it_does(key: str) -> None:
    tests = Path(__file__).parents[1].rglob("*.py")
    others = (file.read_text() for file in tests if file != Path(__file__))
    assert any(re.search(rf"\b{key}\b", text) for text in others)


def test_there_are_at_most_thirty_settings() -> None:
    assert len(AppSettings.model_fields) <= 30


def test_the_pairs_for_the_command_line_give_the_same_settings() -> None:
    settings = read_settings({"modalities": "ADC,PERF", "strategy": "mdal", "budget": "20%"})
    assert read_settings(as_conf(settings)) == settings


def test_every_key_says_what_it_means() -> None:
    for key, field in AppSettings.model_fields.items():
        assert len(field.description or "") > 20, key
    assert unit_of("disk_gb") == "GB"


def test_every_key_that_a_message_or_a_document_names_is_a_key() -> None:
    root = Path(__file__).parents[2]
    texts = {
        file: file.read_text()
        for pattern in ("lib/**/*.py", "lib/views/static/*.js", "docs/*.md", "README.md")
        for file in root.glob(pattern)
        if file.name != "settings.py"
    }
    named = {key for text in texts.values() for key in re.findall(r"--conf ([a-z_]+)\b", text)}
    assert len(named) > 15
    assert named <= {*AppSettings.model_fields, "must"}, "a key that is gone is named"
