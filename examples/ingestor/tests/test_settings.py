"""Settings: defaults, and refusals that name the setting and keep its value to themselves."""

import pytest

from ingestor.settings import WrongSetting, load

URL = "amqp://user:s3cret@127.0.0.1:5672/"


def test_defaults():
    settings = load([], {"RABBITMQ_URL": URL})
    assert (settings.report, settings.queue, settings.status_queue) == ("none", "ingest.pncp", "ingest.pncp.status")
    assert settings.job.zone.key == "America/Cuiaba"
    assert settings.job.delay_per_record == 0
    assert [source.name for source in settings.job.sources] == ["contracts.jsonl", "live.jsonl"]
    assert settings.max_messages is None


def test_once_is_one_message():
    assert load(["--once"], {"RABBITMQ_URL": URL}).max_messages == 1


@pytest.mark.parametrize(
    ("flags", "env", "name"),
    [
        ([], {}, "RABBITMQ_URL"),
        ([], {"RABBITMQ_URL": "http://user:s3cret@127.0.0.1/"}, "RABBITMQ_URL"),
        ([], {"RABBITMQ_URL": "amqp://user:s3cret/x@127.0.0.1:5672/"}, "RABBITMQ_URL"),
        (["--report", "sql"], {"RABBITMQ_URL": URL}, "DATABASE_URL"),
        (["--report", "http"], {"RABBITMQ_URL": URL}, "SYNC_API_URL"),
        (
            ["--report", "http"],
            {"RABBITMQ_URL": URL, "SYNC_API_URL": "http://127.0.0.1", "ADMIN_USERNAME": "a"},
            "ADMIN_PASSWORD",
        ),
        ([], {"RABBITMQ_URL": URL, "WORKER_TIMEZONE": "America/Nowhere"}, "WORKER_TIMEZONE"),
        ([], {"RABBITMQ_URL": URL, "WORKER_TIMEZONE": "../etc"}, "WORKER_TIMEZONE"),
        ([], {"RABBITMQ_URL": URL, "LOG_LEVEL": "loud"}, "LOG_LEVEL"),
        (["--source", "no-such-file"], {"RABBITMQ_URL": URL}, "--source"),
    ],
)
def test_wrong_settings_are_named_without_secrets(flags, env, name):
    with pytest.raises(WrongSetting) as refusal:
        load(flags, env)
    assert name in str(refusal.value)
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize(
    "flags",
    [
        ["--report", "fax"],
        ["--progress-every", "0"],
        ["--max-messages", "-1"],
        ["--once", "--max-messages", "2"],
        ["--delay-per-record", "nan"],
    ],
)
def test_wrong_flags_exit_2(flags, capsys):
    with pytest.raises(SystemExit) as end:
        load(flags, {"RABBITMQ_URL": URL})
    assert end.value.code == 2
    assert flags[0] in capsys.readouterr().err
