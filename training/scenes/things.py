"""Draws any thing of the postcard world with a pen, by its kind.

Knows nothing of where the thing is, of weather or of drawing styles: `render.py` places and lights it.
"""

from training.scenes.animals import draw_bird, draw_cat, draw_dog
from training.scenes.canvas import Pen
from training.scenes.scene import Thing
from training.scenes.street import draw_bench, draw_lamp, draw_tree, draw_umbrella
from training.scenes.vehicles import draw_balloon, draw_bicycle, draw_boat, draw_bus, draw_car


def draw_thing(pen: Pen, thing: Thing, *, lit: bool, snow: bool) -> None:
    """Draw `thing` standing at the pen's origin, as high as the pen's unit.

    The drawing stays (within a few percent) in y from 0 to 1 and x from -w/2 to w/2 units, where w is its
    kind's width by height. Its captioned color carries the part `OWN`, its garments 2, 3, in the order of
    `thing.garments`. `lit` lets lamps, headlights and windows glow; `snow` puts small white caps on top.
    """
    match thing.kind:
        case "umbrella":
            draw_umbrella(pen, thing, snow=snow)
        case "dog":
            draw_dog(pen, thing)
        case "cat":
            draw_cat(pen, thing)
        case "bird":
            draw_bird(pen, thing)
        case "car":
            draw_car(pen, thing, lit=lit, snow=snow)
        case "bus":
            draw_bus(pen, thing, lit=lit, snow=snow)
        case "bicycle":
            draw_bicycle(pen, thing)
        case "boat":
            draw_boat(pen, thing, lit=lit)
        case "balloon":
            draw_balloon(pen, thing, lit=lit)
        case "tree":
            draw_tree(pen, thing, snow=snow)
        case "lamp":
            draw_lamp(pen, thing, lit=lit, snow=snow)
        case "bench":
            draw_bench(pen, thing, snow=snow)
        case _:
            raise ValueError(f"thing.kind: {thing.kind!r} is unknown; use a kind of world.KINDS.")
