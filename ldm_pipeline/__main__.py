"""`python -m ldm_pipeline` is `ldm`.

It knows nothing but that.
"""

import sys

from ldm_pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main())
