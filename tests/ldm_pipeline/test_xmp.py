"""Packets come back, also as other tools rewrite them, and hostile ones are one line.

Where a packet lies in a file is test_containers' and test_picture_files' matter.
"""

import pytest

from ldm_pipeline.xmp import EDITED, GENERATED, Provenance, read_packet, write_packet

JSON = '{"prompt":"Été <b>&amp; \\"☃\\" \\n\x7f\x85\u2028"}'


@pytest.mark.parametrize("recipe", ["", JSON, '{"a":"' + "☃" * 20_000 + '"}'], ids=["none", "short", "long"])
def test_a_packet_comes_back(recipe: str):
    packet = write_packet(Provenance(source_type=EDITED, recipe=recipe))
    escaped = recipe.replace("\x7f", "\\u007f").replace("\x85", "\\u0085")
    assert read_packet(packet) == Provenance(source_type=EDITED, recipe=escaped)
    assert len(packet) < 40_000


def test_the_mark_is_iptcs():
    packet = write_packet(Provenance(source_type=GENERATED)).decode()
    assert "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia" in packet
    assert "ldm:" not in packet.replace("xmlns:ldm", "")


def test_properties_may_be_elements_under_other_prefixes():
    packet = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
    <r:Description xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:o="urn:x-ldm-pipeline:recipe#">
    <e:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia</e:DigitalSourceType>
    <o:recipe>{"a": "&lt;b&gt;"}</o:recipe></r:Description></r:RDF></x:xmpmeta>"""
    assert read_packet(packet.encode()) == Provenance(source_type=GENERATED, recipe='{"a": "<b>"}')


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"<x>",
        b"no XML",
        b"<a/>" * 2_000_000,
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b"<a>" * 50_000,
        b'<a xmlns:o="urn:x-ldm-pipeline:recipe#" o:packedRecipe="nonsense"/>',
    ],
    ids=["empty", "open", "text", "long", "entities", "deep", "packed"],
)
def test_a_hostile_packet_is_one_line(packet: bytes):
    with pytest.raises(ValueError) as caught:
        read_packet(packet)
    assert "\n" not in str(caught.value)
