"""Gradient-boosted trees (Friedman 2001), grown by LightGBM (Ke et al. 2017), predicted as tensors without it.

Held by tests/models/mos_heads/test_mos_heads.py.

Notation: R rows, L level statistics, T trees of N nodes: M inner ones, then M + 1 leaves; [T, N] in each array.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor

from src.common.errors import UserError
from src.config.schema import Above0, Count, MosConfig
from src.models.mos_heads.base import FittedHead


@dataclass
class Options:
    """LightGBM's trees on the level statistics; training needs the extra `gbm`.

    Args:
        trees: number of trees.
        leaves: most leaves of a tree.
        learning_rate: weight of a tree.
        features: part of the level statistics that a tree reads, drawn at random.
        leaf_photos: fewest photos in a leaf; a photo and its mirror image are two.
    """

    trees: Count = 500
    leaves: Annotated[int, Interval(ge=2, le=256)] = 15
    learning_rate: Above0 = 0.05
    features: Annotated[float, Interval(gt=0, le=1)] = 0.1
    leaf_photos: Count = 20


class GBMHead(FittedHead):
    """Trees as arrays: a row goes to `branches[..., 0]` where its statistic `feature` is at most `threshold`."""

    options_type = Options
    sized_by_fit = ("feature", "threshold", "branches", "value")
    feature: Tensor
    threshold: Tensor
    branches: Tensor
    value: Tensor

    def __init__(self, config: MosConfig, size: int) -> None:
        super().__init__(config, size)
        nodes = 2 * self.options.leaves - 1
        self.register_buffer("feature", torch.zeros(0, nodes, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(0, nodes, dtype=torch.float64))
        self.register_buffer("branches", torch.zeros(0, nodes, 2, dtype=torch.int64))
        self.register_buffer("value", torch.zeros(0, nodes))

    def scaled(self, inputs: Tensor) -> Tensor:
        """As MosHead's."""
        trees = torch.arange(len(self.feature), device=inputs.device).expand(len(inputs), -1)
        node = torch.zeros_like(trees)
        for _ in range(self.options.leaves - 1):  # the greatest depth; a leaf leads to itself
            right = inputs.gather(1, self.feature[trees, node]) > self.threshold[trees, node]
            node = self.branches[trees, node, right.long()]
        return self.value[trees, node].sum(dim=1)

    def fit_inputs(self, inputs: Tensor, targets: Tensor, weight: Tensor) -> None:
        """As FittedHead's.

        Raises:
            UserError: LightGBM is not installed.
        """
        columns = (x.repeat_interleave(inputs.shape[1]).numpy() for x in (targets, weight))
        booster = self._train(inputs.flatten(0, 1).numpy(), *columns)
        roots = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
        arrays = zip(*(tree_arrays(root, self.options.leaves) for root in roots), strict=True)
        self.feature, self.threshold, self.branches, self.value = map(torch.stack, arrays)

    def _train(self, rows: Any, targets: Any, weight: Any = None) -> Any:
        try:
            import lightgbm
        except ImportError as error:
            raise UserError("model.mos.kind: gbm needs LightGBM; install it: pip install lightgbm") from error
        options = self.options
        parameters = {
            "num_leaves": options.leaves,
            "learning_rate": options.learning_rate,
            "feature_fraction": options.features,
            "min_data_in_leaf": options.leaf_photos,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": torch.get_num_threads(),
            "verbosity": -1,
        }
        return lightgbm.train(parameters, lightgbm.Dataset(rows, targets, weight=weight), options.trees)


def tree_arrays(root: dict[str, Any], leaves: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """feature, threshold, branches and value [N] of a tree of LightGBM's dump_model."""
    nodes = 2 * leaves - 1
    feature, value = torch.zeros(nodes, dtype=torch.int64), torch.zeros(nodes)
    threshold, branches = torch.zeros(nodes, dtype=torch.float64), torch.arange(nodes).unsqueeze(1).repeat(1, 2)
    waiting = [root]
    for place, node in enumerate(waiting):  # breadth first: the list grows as its nodes are read
        if "leaf_value" in node:
            value[place] = node["leaf_value"]
            continue
        feature[place], threshold[place] = node["split_feature"], node["threshold"]
        branches[place] = torch.tensor([len(waiting), len(waiting) + 1])
        waiting += [node["left_child"], node["right_child"]]
    return feature, threshold, branches, value


HEAD = GBMHead
