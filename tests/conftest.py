"""Shape annotations are held to while tests run: Float[Tensor, "batch channels ..."] means what it says.

Other annotations are not checked: tests hand over wrong types on purpose, to see what error is made of them.
"""

from pathlib import Path

from jaxtyping import install_import_hook

from tests import shapes

ROOT = Path(__file__).resolve().parents[1]

# Modules without shapes are left alone: each checked call costs some 20 microseconds.
install_import_hook(
    [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("ldm_pipeline", "training")
        for path in (ROOT / package).rglob("*.py")
        if "from jaxtyping import" in path.read_text(encoding="utf-8")
    ],
    f"{shapes.__name__}.{shapes.checked.__name__}",
)
