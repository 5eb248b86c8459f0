"""Model folders: the same answers after loading, and one clear line for what is no model folder."""

import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from src.common.errors import UserError
from src.config.schema import BackboneConfig, Config, DecoderConfig, ModelConfig, MosConfig, TokenizerConfig
from src.data.tokenizer import Tokenizer
from src.models.backbones.base import Backbone
from src.models.model_folder import FORMAT, describe_model, load_model_folder, save_model
from src.models.multitask import MultitaskModel
from src.models.safetensors_file import MAX_HEADER


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, MultitaskModel, Tokenizer]:
    weights = tmp_path / "weights.safetensors"
    import timm

    save_file(timm.create_model("mobilenetv3_small_050").state_dict(), weights)
    backbone = BackboneConfig(name="mobilenetv3_small_050", weights=str(weights))
    config = Config(
        model=ModelConfig(backbone, MosConfig(hidden=8), DecoderConfig(embedding=8, hidden=8, attention_size=4))
    )
    tokenizer = Tokenizer.train(["a dog runs", "개가 달린다"], TokenizerConfig(min_count=1), ["x", "y"])
    model = MultitaskModel(config.model, Backbone(backbone), tokenizer.size, len(tokenizer.styles)).eval()
    model.fit_scale(torch.randn(5, model.backbone.level_size), torch.arange(5.0))
    torch.nn.init.normal_(model.mos.body[-1].weight)  # type: ignore[union-attr, arg-type]
    save_model(tmp_path / "model", model, tokenizer.to_json(), config, {"mos_mean": 2.0, "comment": "맑은 날"})
    weights.unlink()
    return tmp_path / "model", model, tokenizer


def test_answers_are_the_same_after_loading(saved: tuple[Path, MultitaskModel, Tokenizer]) -> None:
    folder, model, tokenizer = saved
    loaded = load_model_folder(folder)
    pixels, style = torch.rand(2, 3, 64, 64), torch.tensor([3, 4])
    with torch.inference_mode():
        features = model.backbone(pixels)
        torch.testing.assert_close(loaded.model.backbone(pixels).grid, features.grid)
        assert torch.equal(loaded.model.mos(features.levels), model.mos(features.levels))  # type: ignore[misc]
    generation = loaded.config.generate
    assert loaded.model.generate(features.grid, style, generation) == model.generate(features.grid, style, generation)
    assert loaded.model.backbone.fingerprint() == model.backbone.fingerprint()
    assert loaded.model.special == [0, 1, 3, 4]
    assert not loaded.model.training
    assert loaded.meta == {"format": 1, "mos_mean": 2.0, "comment": "맑은 날"}
    assert loaded.tokenizer.to_json() == tokenizer.to_json()
    assert loaded.config.model.decoder.hidden == 8


def test_words_stay_tied(saved: tuple[Path, MultitaskModel, Tokenizer]) -> None:
    decoder = load_model_folder(saved[0]).model.decoder
    assert decoder is not None
    assert decoder.vocabulary.weight is decoder.words.weight
    names = load_file(saved[0] / "model.safetensors")
    assert ("decoder.words.weight" in names) != ("decoder.vocabulary.weight" in names)


def test_saving_again_replaces_the_folder(saved: tuple[Path, MultitaskModel, Tokenizer]) -> None:
    folder, model, tokenizer = saved
    config = load_model_folder(folder).config
    (folder / "stray").write_text("of an older version")
    save_model(folder, model, tokenizer.to_json(), config, {"again": 1})
    assert load_model_folder(folder).meta == {"format": 1, "again": 1}
    assert sorted(p.name for p in folder.parent.iterdir()) == ["model"]
    assert len(list(folder.iterdir())) == 4


def test_a_failed_save_leaves_the_older_one(saved: tuple[Path, MultitaskModel, Tokenizer]) -> None:
    folder, model, tokenizer = saved
    with pytest.raises(TypeError):
        save_model(folder, model, tokenizer.to_json(), load_model_folder(folder).config, {"bad": object()})
    assert load_model_folder(folder).meta["mos_mean"] == 2.0
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.yaml", "tokenizer.json", "meta.json"])
def test_a_missing_or_damaged_file_is_named(saved: tuple[Path, MultitaskModel, Tokenizer], name: str) -> None:
    file = saved[0] / name
    file.write_bytes(b"\x00{: not this")
    with pytest.raises(UserError, match=name):
        load_model_folder(saved[0])
    file.unlink()
    with pytest.raises(UserError, match=name):
        load_model_folder(saved[0])


@pytest.mark.parametrize("number", [None, 0, 2])
def test_another_format_is_refused_in_one_line(saved: tuple[Path, MultitaskModel, Tokenizer], number: object) -> None:
    file = saved[0] / "meta.json"
    meta = json.loads(file.read_text())
    assert meta.pop("format") == FORMAT
    file.write_text(json.dumps(meta if number is None else {**meta, "format": number}))
    for read in (load_model_folder, describe_model):
        with pytest.raises(UserError, match=r"meta\.json: .*format.*reads format 1; train the model again$") as error:
            read(saved[0])
        assert "\n" not in str(error.value)


class Bomb:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("exploded"),))


def test_a_pickle_is_refused_and_not_run(
    saved: tuple[Path, MultitaskModel, Tokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (saved[0] / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_model_folder(saved[0])
    assert not Path("exploded").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.yaml", "meta.json"])
def test_a_link_out_of_the_folder_is_refused(saved: tuple[Path, MultitaskModel, Tokenizer], name: str) -> None:
    folder = saved[0]
    (folder / name).rename(outside := folder.parent / "outside")
    for target in (outside, Path("../outside")):
        (folder / name).symlink_to(target)
        with pytest.raises(UserError, match=rf"{name}: is a link out of the model folder; put"):
            load_model_folder(folder)
        (folder / name).unlink()
    outside.rename(folder / "inside")
    (folder / name).symlink_to("inside")
    (folder.parent / "link").symlink_to(folder)
    assert load_model_folder(folder.parent / "link").meta["mos_mean"] == 2.0  # links to the folder and within it


def test_a_config_reads_no_other_file(saved: tuple[Path, MultitaskModel, Tokenizer]) -> None:
    file = saved[0] / "config.yaml"
    text = file.read_text("utf-8")
    (saved[0].parent / "secret.yaml").write_text("train: {epochs: secret}")
    file.write_text(f"include: ../secret.yaml\n{text}", "utf-8")
    with pytest.raises(UserError, match=r"config\.yaml: unknown key include"):
        load_model_folder(saved[0])
    for option in ("checkpoint_path", "pretrained_cfg", "cache_dir"):
        assert "options: {}" in text
        file.write_text(text.replace("options: {}", f"options: {{{option}: ../secret.yaml}}", 1), "utf-8")
        with pytest.raises(UserError, match=rf"model\.backbone\.options\.{option}: name weights by"):
            load_model_folder(saved[0])
    file.write_text(text.replace("name: mobilenetv3_small_050", "name: blip/../secret", 1), "utf-8")
    with pytest.raises(UserError, match=r"config\.yaml lacks the sizes of a BLIP"):
        load_model_folder(saved[0])


def test_absurd_headers_and_nesting_are_refused(saved: tuple[Path, MultitaskModel, Tokenizer]) -> None:
    weights, meta = saved[0] / "model.safetensors", saved[0] / "meta.json"
    data = weights.read_bytes()
    for length in (MAX_HEADER + 1, 2**63 - 1, 2**64 - 1):
        weights.write_bytes(length.to_bytes(8, "little") + data[8:])
        with pytest.raises(UserError, match=rf"its header has {length:,} bytes, at most 10,000,000 are read"):
            load_model_folder(saved[0])
    meta.write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"meta\.json is damaged"):
        load_model_folder(saved[0])


def test_foreign_weights_are_refused(saved: tuple[Path, MultitaskModel, Tokenizer]) -> None:
    file = saved[0] / "model.safetensors"
    state = load_file(file)
    save_file(state, file)
    with pytest.raises(UserError, match="not a model of this project"):
        load_model_folder(saved[0])
    head = {"vocabulary": "10", "styles": "2"}
    save_file({"a": torch.zeros(1)}, file, metadata=head)
    with pytest.raises(UserError, match="does not fit"):
        load_model_folder(saved[0])


def test_another_config_is_refused(saved: tuple[Path, MultitaskModel, Tokenizer]) -> None:
    folder, model, tokenizer = saved
    config = load_model_folder(folder).config
    other = replace(config, model=replace(config.model, decoder=replace(config.model.decoder, hidden=16)))
    save_model(folder, model, tokenizer.to_json(), other, {})
    with pytest.raises(UserError, match=r"model\.safetensors does not fit"):
        load_model_folder(folder)
    assert json.loads((folder / "meta.json").read_text()) == {"format": 1}


def test_files_have_the_permissions_of_the_umask(saved: tuple[Path, MultitaskModel, Tokenizer]) -> None:
    os.umask(umask := os.umask(0))
    assert {path.stat().st_mode & 0o777 for path in saved[0].iterdir()} == {0o666 & ~umask}
    assert saved[0].stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.yaml", "meta.json"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(
    saved: tuple[Path, MultitaskModel, Tokenizer], name: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:  # of all, where a user other than root can enter it
        Path(folder).chmod(0o755)
        shutil.copytree(saved[0], copy := Path(folder, "model"))
        (copy / name).chmod(0)
        with (
            as_plain_user(),
            pytest.raises(UserError, match=rf"{name}: cannot be read \(Permission denied\); ask its owner"),
        ):
            load_model_folder(copy)


@contextmanager
def as_plain_user() -> Iterator[None]:
    """Root may read every file: takes the rights of `nobody` for the block."""
    if root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
