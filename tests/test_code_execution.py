"""No file that src/ reads can run code: no pickle, no unsafe YAML, no checkpoint beyond its tensors."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from src.training.checkpointing import AtomicCheckpointIO

ROOT = Path(__file__).parents[1]
MODULES = set("pickle cPickle _pickle cloudpickle dill joblib marshal shelve jsonpickle skops hickle".split())
CALLS = set("eval exec compile execfile read_pickle to_pickle load_module unsafe_load full_load load_all".split())
SUFFIXES = (".pkl", ".pickle", ".joblib", ".npy", ".dill")
ALLOWED = {
    ("models/backbones/_weights_file.py", "pickle"),  # for the name of an error of torch
    ("tuning/trial_progress.py", "ray.cloudpickle"),  # the error that this process wrote a moment before
}


def unsafe_code(tree: ast.AST) -> Iterator[str]:
    """Imports and calls that can run code of a file, and names of files that hold such code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names = [module + name.name for name in node.names]
            yield from (name for name in names if MODULES & set(name.split(".")))
        elif isinstance(node, ast.Call) and is_unsafe_call(node):
            yield ast.unparse(node)
        elif isinstance(node, ast.Constant) and str(node.value).endswith(SUFFIXES):
            yield repr(node.value)
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code"):
            yield f"{node.arg}={ast.unparse(node.value)}"


def is_unsafe_call(node: ast.Call) -> bool:
    """Whether a call reads what may hold code."""
    name = ast.unparse(node.func)
    last = name.rpartition(".")[2]
    safe = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
    if name in ("torch.load", "trainer.fit", "trainer.validate", "trainer.test", "trainer.predict"):
        return not safe and not (name == "trainer.fit" and not node.args and not node.keywords)  # Ray's has none
    if last in ("load_from_checkpoint", "load_state_dict_from_url"):
        return not safe
    if name in ("yaml.load", "np.load", "numpy.load", "pickle.load", "pickle.loads", "pickle.Unpickler"):
        return True
    return (last if name.startswith(("yaml.", "pd.")) else name) in CALLS


def test_src_reads_no_file_that_can_run_code() -> None:
    places = {
        (path.relative_to(ROOT / "src").as_posix(), code)
        for path in sorted((ROOT / "src").rglob("*.py"))
        for code in unsafe_code(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert places == ALLOWED


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import cloudpickle as json",
        "from joblib import load",
        "from ray import cloudpickle, tune",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "trainer.fit(module, ckpt_path=path)",
        "Module.load_from_checkpoint(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "np.load(path)",
        "save(x, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "pd.read_pickle(path)",
        "eval(text)",
        "open('cache.pkl')",
    ],
)
def test_unsafe_code_is_recognised(code: str) -> None:
    assert [*unsafe_code(ast.parse(code))]
    safe = "torch.load(path, weights_only=True); yaml.safe_load(text); model.eval(); re.compile(text); json.load(file)"
    assert not [*unsafe_code(ast.parse(safe))]


def test_no_file_of_the_repository_holds_a_pickle() -> None:
    folders = [ROOT / name for name in ("src", "configs", "sweeps", "docs", "tests", "submissions")]
    suffixes = (*SUFFIXES, ".pt", ".pth", ".ckpt")
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in suffixes]
    assert files == []


class Linear(LightningModule):
    """A model of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return self.layer(batch).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Bomb:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("exploded"),))


def test_a_checkpoint_with_code_is_refused_by_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As src/training/trainer.py resumes."""
    monkeypatch.chdir(tmp_path)
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = Trainer(max_epochs=1, plugins=[AtomicCheckpointIO()], enable_model_summary=False, **options)
    trainer.fit(Linear(), loader := DataLoader(torch.ones(2, 1)))
    trainer.save_checkpoint("last.ckpt")
    Trainer(max_epochs=1, **options).fit(Linear(), loader, ckpt_path="last.ckpt", weights_only=True)
    torch.save(torch.load("last.ckpt", weights_only=True) | {"bomb": Bomb()}, "last.ckpt")
    with pytest.raises(Exception, match="[Ww]eights.only"):
        Trainer(max_epochs=2, **options).fit(Linear(), loader, ckpt_path="last.ckpt", weights_only=True)
    assert not Path("exploded").exists()
