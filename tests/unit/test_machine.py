"""cleantune.machine: the processor's model, without what changes from one reading to the next."""

import platform
from pathlib import Path

from cleantune import machine


def test_of_the_processors_the_first_is_named_by_its_model(monkeypatch):
    listing = "processor\t: 0\nvendor_id\t: X\ncpu family\t: 6\nmodel\t: 7\nmodel name\t: é\nstepping\t: 1\ncpu MHz\t: 3\n"
    arm = "CPU part\t: 0xd0c\n"
    text = f"{listing}{arm}\n{listing}\n{listing}"
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: text if encoding else "")
    assert machine.processor_lines() == [
        line
        for line in (listing + arm).splitlines()
        if not line.startswith(("processor", "cpu MHz"))
    ]

    assert machine.processor() == "é"

    def missing(self, encoding):
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(platform, "processor", lambda: "some")
    assert machine.processor_lines() == ["some"]
    assert machine.processor() == "some"


def test_the_processor_is_named_without_what_changes_from_one_to_the_next():
    named = "\n".join(machine.processor_lines())
    assert "model" in named or "CPU part" in named
    assert "MHz" not in named
