"""Low-rank adaptation of a module's layers, through peft (Hu et al. 2022).
Held by tests/models/backbones/test_blip.py.
"""

import importlib.util
import re

from torch import nn

from src.common.errors import UserError, one_line
from src.config.schema import LoraConfig


def require_peft(*packages: str) -> None:
    """Raises UserError, saying what to install, where a package of the extra `blip` is missing."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"BLIP and LoRA need {' and '.join(missing)}: make setup, or pip install {' '.join(missing)}")


def add_lora(module: nn.Module, config: LoraConfig, key: str) -> None:
    """Puts trainable low-rank additions beside layers of a module, and freezes all that was there.

    Args:
        module: changed in place; its outputs stay the same until the additions are trained.
        config: rank above 0, and which layers.
        key: of the config, for messages.

    Raises:
        UserError: peft is not installed, or no layer matches the targets.
    """
    require_peft("peft")
    import peft

    settings = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=config.targets
    )
    try:
        peft.inject_adapter_in_model(settings, module)
    except (ValueError, re.error) as error:
        names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
        some = ", ".join(names[: 4 * 5 : 5])
        reason = one_line(error)[:120]
        raise UserError(
            f"{key}.targets: {config.targets!r} fits no layer ({reason}); names are such as {some}"
        ) from error
