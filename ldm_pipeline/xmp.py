"""How a picture came to be <-> an XMP packet: IPTC's digital source type, and perhaps a recipe.

It does not know what a recipe says. Packets that are read are not trusted: no entities, bounded lengths.

The recipe is one property under a name of our own, which tools that rewrite XMP keep, as they keep all that
they do not know. It stands there as it is, or compressed where a JPEG file has no room for it.
"""

import base64
import zlib
from dataclasses import dataclass
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from ldm_pipeline.recipe_parts import short, unpacked

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
OURS = "urn:x-ldm-pipeline:recipe#"
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED = "trainedAlgorithmicMedia"
"""Created using generative AI."""
EDITED = "compositeWithTrainedAlgorithmicMedia"
"""Edited using generative AI: an existing picture was the start."""
LONGEST_PLAIN = 30_000
LARGEST_PACKET_BYTES = 4 * 1024 * 1024
LARGEST_RECIPE_BYTES = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a packet says."""

    source_type: str = ""
    """A term of IPTC's vocabulary, e.g. "trainedAlgorithmicMedia"; "" for none."""
    recipe: str = ""
    """The recipe's JSON, unchecked; "" for none."""


def write_packet(provenance: Provenance) -> bytes:
    """Write a packet, UTF-8; texts that XML cannot hold have to be escaped before, as JSON's are."""
    properties = {"Iptc4xmpExt:DigitalSourceType": SOURCE_TYPES + provenance.source_type}
    recipe = _without_controls(provenance.recipe)
    if recipe and len(recipe.encode()) <= LONGEST_PLAIN:
        properties["ldm:recipe"] = recipe
    elif recipe:
        properties["ldm:packedRecipe"] = base64.b64encode(zlib.compress(recipe.encode(), 9)).decode()
    values = " ".join(f"{name}={quoteattr(value)}" for name, value in properties.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}">'
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{IPTC}" xmlns:ldm="{OURS}" {values}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def read_packet(packet: bytes) -> Provenance:
    """Read a packet, properties as attributes or as elements; ValueError in one line for a broken one."""
    if len(packet) > LARGEST_PACKET_BYTES:
        raise ValueError(f"the XMP packet has {len(packet)} bytes; at most {LARGEST_PACKET_BYTES} are read")
    wanted = {
        f"{IPTC} DigitalSourceType": "type",
        f"{OURS} recipe": "plain",
        f"{OURS} packedRecipe": "packed",
    }
    found: dict[str, str] = {}
    open_element: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        for key in (key for key in attributes if key in wanted):
            found.setdefault(wanted[key], attributes[key])
        open_element[:] = [wanted[name]] if name in wanted else []

    def end(_: str) -> None:
        open_element.clear()

    def text(content: str) -> None:
        for key in open_element:
            pieces.setdefault(key, []).append(content)

    def refuse(*_: object) -> None:
        raise ValueError("it declares a document type, which XMP has no use for")

    pieces: dict[str, list[str]] = {}
    reader = expat.ParserCreate(namespace_separator=" ")
    reader.StartElementHandler, reader.EndElementHandler, reader.CharacterDataHandler = start, end, text
    reader.StartDoctypeDeclHandler = refuse
    try:
        reader.Parse(packet.strip(b"\0 \r\n\t"), True)
    except (expat.ExpatError, ValueError) as error:
        raise ValueError(f"the XMP packet cannot be read: {short(error)}") from None
    found = {**{key: "".join(parts).strip() for key, parts in pieces.items()}, **found}
    recipe = found.get("plain", "")
    if not recipe and "packed" in found:
        try:
            recipe = unpacked(found["packed"], largest=LARGEST_RECIPE_BYTES).decode()
        except ValueError as error:
            raise ValueError(f"the recipe in the XMP packet cannot be read: {short(error)}") from None
    return Provenance(source_type=found.get("type", "").removeprefix(SOURCE_TYPES)[:80], recipe=recipe)


def _without_controls(text: str) -> str:
    """JSON with its DEL and C1 characters and what XML forbids escaped; it holds no others as they are."""
    return "".join(f"\\u{ord(c):04x}" if "\x7f" <= c <= "\x9f" or c in "\ufffe\uffff" else c for c in text)
