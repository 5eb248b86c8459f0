"""One image backbone, two heads: mean opinion score and caption."""

import os

from src.common.library_messages import silence_libraries

# albumentations asks the network for a newer version when it is imported, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
silence_libraries()
