"""BLIP against transformers' own: features, logits, captions; LoRA; folders without BLIP's files; the commands."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from src import evaluate, predict, train
from src.common.errors import UserError
from src.config.schema import BackboneConfig, Config, GenerationConfig, LoraConfig
from src.data.tokenizer import PAD, Tokenizer
from src.inference.attention import image_attention
from src.inference.predict_options import PredictOptions
from src.inference.predictor import Prediction, Predictor
from src.models.backbones.base import Backbone
from src.models.decoders.blip import BlipDecoder, read_blip_vocabulary
from src.models.losses._cross_entropy import caption_cross_entropy
from src.models.model_folder import load_model_folder, save_model
from src.models.multitask import MultitaskModel
from src.serving.page.attention_view import attention_maps
from src.tracking.run_folder import config_identity
from tests.tiny import write_photo
from tests.tiny_blip import PATCH, SIDE, SPECIAL, WIDE, blip_config, write_blip
from tests.training.test_run import make_data

PHOTOS = 12
PLACES = (SIDE // PATCH) ** 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blip(tmp_path_factory.mktemp("blip"))


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    from transformers import BlipForConditionalGeneration

    return BlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    made = BlipDecoder.tokenizer(blip_config(folder))
    assert made is not None
    return made


@pytest.fixture(scope="module")
def ours(folder: Path, tokenizer: Tokenizer) -> MultitaskModel:
    return make(blip_config(folder), tokenizer).eval()


def make(config: Config, tokenizer: Tokenizer) -> MultitaskModel:
    torch.manual_seed(0)
    model = MultitaskModel(config.model, Backbone(config.model.backbone), tokenizer.size, len(tokenizer.styles))
    model.fit_scale(torch.randn(5, model.backbone.level_size), torch.arange(5.0))
    return model


def pixels(count: int = PHOTOS, height: int = SIDE, width: int = SIDE) -> Tensor:
    """Photos that differ in more than noise."""
    small = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(small, (height, width))


def normalised(photos: Tensor) -> Tensor:
    """As the preprocessor's file says; its deviations are those of CLIP."""
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    return (photos - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / deviation


def tokens_of(tokenizer: Tokenizer) -> Tensor:
    """[2, 3, T] with captions of several lengths and a missing one."""
    texts = ["a sharp photo with soft light", "a dark scene", "", "a bright photos", "a dull photo, calm!", "colours"]
    rows = [tokenizer.encode(text, "challenge") if text else [] for text in texts]
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows]).view(2, 3, longest)


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (40, 51)])
def test_the_grid_and_the_levels_are_of_their_vision_tower(ours: MultitaskModel, theirs: Any, shape: tuple) -> None:
    photos = pixels(3, *shape)
    with torch.inference_mode():
        features = ours.backbone(photos)
        expected = theirs.vision_model(
            normalised(photos), interpolate_pos_encoding=True, output_hidden_states=True, output_attentions=False
        )
        torch.testing.assert_close(ours.backbone.levels(photos), features.levels)
        torch.testing.assert_close(ours.backbone.grid(photos), features.grid)
    torch.testing.assert_close(features.grid, expected.last_hidden_state, atol=1e-4, rtol=1e-4)
    layers = [states[:, 1:] for states in expected.hidden_states[1:]]
    parts = [part for x in layers for part in (x.mean(dim=1), (x.var(dim=1, unbiased=False) + 1e-6).sqrt())]
    torch.testing.assert_close(features.levels, torch.cat(parts, dim=1), atol=1e-4, rtol=1e-4)
    assert ours.mos is not None
    assert (ours.backbone.grid_channels, ours.backbone.level_size) == (WIDE, 2 * 2 * WIDE)


def test_the_words_are_their_own(folder: Path, tokenizer: Tokenizer) -> None:
    from transformers import BertTokenizer

    own = BertTokenizer.from_pretrained(folder)
    ids = read_blip_vocabulary(folder.as_posix()).ids(1)
    assert len(ids) == len(set(ids)) == tokenizer.size == len(own) - len(SPECIAL) + 4
    for text in ("A sharp photos, softly!", "[SEP] zebra <end>"):
        tokens = tokenizer.encode(text, "challenge")
        expected = own.encode(text.replace("[SEP]", "[ sep ]"), add_special_tokens=False)
        assert [ids[token] for token in tokens[1:-1]] == expected
        assert (ids[tokens[0]], ids[tokens[-1]]) == (len(own), own.sep_token_id)
        assert tokenizer.decode(tokens) == own.decode([token for token in expected if token != own.unk_token_id])
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.encode("a dark scene", "challenge") == tokenizer.encode("a dark scene", "challenge")


def test_logits_are_theirs_when_taught_and_step_by_step(
    ours: MultitaskModel, theirs: Any, folder: Path, tokenizer: Tokenizer
) -> None:
    tokens, ids = tokens_of(tokenizer), torch.tensor(read_blip_vocabulary(folder.as_posix()).ids(1))
    decoder = ours.decoder
    with torch.inference_mode():
        grid = ours.backbone.grid(pixels(2))
        logits = decoder(grid, tokens).flatten(0, 1)
        rows = ids[tokens.flatten(0, 1)][:, :-1]
        expected = theirs.text_decoder(rows, encoder_hidden_states=grid.repeat_interleave(3, dim=0)).logits[..., ids]
        known = tokens.flatten(0, 1)[:, 1:] != PAD
        torch.testing.assert_close(logits[known], expected[known], atol=1e-4, rtol=1e-4)
        state = decoder.start(grid).select(torch.tensor([0, 0, 0, 1, 1, 1]))
        for t in range(tokens.shape[2] - 1):
            stepped, state, looks = decoder.step(state, tokens.flatten(0, 1)[:, t])
            torch.testing.assert_close(stepped, logits[:, t], atol=1e-4, rtol=1e-4)
        assert looks.shape == (6, grid.shape[1])
        torch.testing.assert_close(looks.sum(dim=1), torch.ones(6))


def test_captions_may_be_repeated_reordered_and_dropped(ours: MultitaskModel) -> None:
    decoder, first = ours.decoder, torch.tensor([3, 3, 3])
    with torch.inference_mode():
        grid = ours.backbone.grid(pixels(3))
        _, state, _ = decoder.step(decoder.start(grid), first)
        for rows in ([2, 0, 2], [1, 1], [0, 1, 1, 2], [2]):
            chosen = state.select(torch.tensor(rows))
            found = decoder.step(chosen, torch.arange(4, 4 + len(rows)))[0]
            for row, token, logits in zip(rows, range(4, 8), found, strict=False):
                alone = decoder.step(decoder.start(grid[row : row + 1]), first[:1])[1]
                expected = decoder.step(alone, torch.tensor([token]))[0][0]
                torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
            assert len(chosen.shared[0]) == (1 if len(set(rows)) == 1 else 3)  # dropped where half are not needed


def test_the_loss_is_the_cross_entropy_of_the_logits(ours: MultitaskModel, tokenizer: Tokenizer) -> None:
    tokens = tokens_of(tokenizer)
    grid = ours.backbone.grid(pixels(2))
    for smoothing in (0.0, 0.1):
        expected = caption_cross_entropy(ours.decoder(grid, tokens), tokens, smoothing)
        torch.testing.assert_close(ours.decoder.loss(grid, tokens, smoothing), expected)
    scale = torch.tensor([[1.0, -2.0, 5.0], [0.0, 3.0, 0.5]])
    logp = ours.decoder(grid, tokens).log_softmax(dim=3)
    target = tokens[:, :, 1:]
    likely = logp.gather(3, target.unsqueeze(3)).squeeze(3) * (target != PAD)
    expected = -(likely.sum(dim=2) * scale).sum() / (target != PAD).sum()
    torch.testing.assert_close(ours.decoder.loss(grid, tokens, scale=scale), expected)


@pytest.mark.parametrize(("beam", "no_repeat", "penalty"), [(1, 0, 0.0), (1, 2, 0.0), (3, 0, 1.0), (4, 2, 0.0)])
def test_captions_are_theirs(
    ours: MultitaskModel, theirs: Any, folder: Path, tokenizer: Tokenizer, beam: int, no_repeat: int, penalty: float
) -> None:
    from transformers import BertTokenizer

    method: Any = "beam" if beam > 1 else "greedy"
    generation = GenerationConfig(method, beam=beam, length_penalty=penalty, no_repeat=no_repeat, max_length=30)
    with torch.inference_mode():
        grid = ours.backbone.grid(pixels())
    made = ours.generate(grid, torch.full((PHOTOS,), 3), generation)
    found = theirs.generate(
        normalised(pixels()),
        **{"num_beams": beam, "do_sample": False, "length_penalty": penalty, "no_repeat_ngram_size": no_repeat},
        **{"max_new_tokens": 30, "min_new_tokens": 1, "early_stopping": beam > 1},
        renormalize_logits=not no_repeat,  # as ours: after a first end is banned, but not after repetitions are
    )
    own = BertTokenizer.from_pretrained(folder)
    captions = [tokenizer.decode(caption.tokens) for caption in made]
    assert captions == [own.decode(row, skip_special_tokens=True) for row in found]
    assert len(set(captions)) > PHOTOS // 3


def test_a_style_begins_as_their_first_token_and_is_trained_on_its_own(folder: Path) -> None:
    config = blip_config(folder)
    words = read_blip_vocabulary(folder.as_posix())
    tokenizer = words.tokenizer(["x", "y"], 20)
    model = make(config, tokenizer).train()
    grid, tokens = torch.rand(1, 17, WIDE), torch.tensor([tokenizer.encode("a dark scene", s) for s in ("x", "y")])
    first, second = model.decoder(grid, tokens.unsqueeze(0))[0]
    torch.testing.assert_close(first, second)
    model.decoder.loss(grid, tokens[1:].unsqueeze(0)).backward()
    assert model.decoder.styles.weight.grad.abs().sum(dim=1).gt(0).tolist() == [False, True]
    assert model.special == [0, 1, 3, 4]
    assert tokenizer.decode(tokens[1].tolist()) == "a dark scene"


@pytest.mark.parametrize("rank", [0, 2])
def test_rank_says_what_is_trained(folder: Path, tokenizer: Tokenizer, rank: int) -> None:
    model = make(blip_config(folder, rank), tokenizer)
    trained = {name for name, p in model.named_parameters() if p.requires_grad and name.startswith("decoder.")}
    lora = {name for name, _ in model.named_parameters() if "lora_" in name}
    if rank:
        assert len(lora) == 2 * 2 * 2 * 2  # A and B, query and value, of and across captions, in two layers
        assert trained == lora | {"decoder.styles.weight"}
    else:
        assert trained == {name for name, _ in model.named_parameters() if name.startswith("decoder.")}
    assert not any(p.requires_grad for p in model.backbone.parameters())


def test_a_model_folder_needs_none_of_their_files(folder: Path, tmp_path: Path, tokenizer: Tokenizer) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "blip"))
    config = blip_config(copy)
    config.model.backbone.lora = LoraConfig(2, targets=r".*\.qkv")
    model = make(config, tokenizer).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    save_model(tmp_path / "model", model, tokenizer.to_json(), config, {})
    shutil.rmtree(copy)
    loaded = load_model_folder(tmp_path / "model")
    with torch.inference_mode():
        features, again = model.backbone(pixels()), loaded.model.backbone(pixels())
        assert torch.equal(again.grid, features.grid)
        assert torch.equal(loaded.model.mos(again.levels), model.mos(features.levels))  # type: ignore[misc]
        style, generation = torch.full((PHOTOS,), 3), loaded.config.generate
        assert loaded.model.generate(again.grid, style, generation) == model.generate(features.grid, style, generation)
    assert loaded.model.backbone.fingerprint() == model.backbone.fingerprint()
    assert loaded.tokenizer.to_json() == tokenizer.to_json()


def experiment(place: Path, blip: Path, **train: object) -> str:
    """An experiment's file that fine-tunes decoder and tower on tiny photos."""
    make_data(place / "data")
    config = blip_config(blip)
    config.model.backbone.lora = LoraConfig(2, targets=r".*\.qkv")
    tree = config_identity(config)
    tree["data"] |= {"val": 0.33, "split_dir": "cache/splits"}
    tree["train"] |= {"epochs": 1, "batch_size": 8, "threads": 1, "lr": 0.01, "backbone_lr": 0.01, **train}
    (place / "blip.yaml").write_text(yaml.safe_dump(tree | {"track": {"name": "tiny"}}))
    return str(place / "blip.yaml")


def test_fine_tuning_evaluating_and_predicting(folder: Path, elsewhere: Path, theirs: Any) -> None:
    copy = Path(shutil.copytree(folder, elsewhere / "blip"))
    assert train.main(["--config", experiment(elsewhere, copy)]) == 0
    state = load_file("runs/tiny/model/model.safetensors")
    changed = {name for name, value in state.items() if name.endswith("lora_B.default.weight") and value.any()}
    assert len([name for name in changed if name.startswith("backbone.")]) == 2
    assert len([name for name in changed if name.startswith("decoder.")]) == 8
    plain = {name.replace(".base_layer", ""): value for name, value in state.items() if "lora_" not in name}
    for name, value in theirs.vision_model.state_dict().items():
        assert torch.equal(plain[f"backbone.network.vision.{name}"], value), name
    ids = read_blip_vocabulary(folder.as_posix()).ids(1)
    for name, value in theirs.text_decoder.bert.state_dict().items():
        expected = value[ids] if "word_embeddings" in name else value
        assert torch.equal(plain[f"decoder.text.bert.{name}"], expected), name
    shutil.rmtree(copy)
    told = ["--details", "out/x.details.json", "--attention", "true"]
    assert evaluate.main(["--model", "runs/tiny/model", "--part", "val", "--meteor", "false", *told]) == 0
    attentions = [one["attention"] for one in json.loads(Path("out/x.details.json").read_text())["photos"]]
    rows = [row for one in attentions if one for row in one["weights"]]
    assert rows
    assert {len(row) for row in rows} == {PLACES}
    assert sum(rows[0]) == pytest.approx(1, abs=1e-2)
    assert predict.main(["--model", "runs/tiny/model", "--data", "data/train", "--output", "out/x.csv"]) == 0
    assert json.loads(Path("out/x.json").read_text())["fallbacks"] == []


def test_people_see_where_it_looked_in_the_photo_without_the_class_token(
    folder: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config = blip_config(folder)
    save_model(tmp_path / "model", make(config, tokenizer), tokenizer.to_json(), config, {})
    answerer = Predictor.load(tmp_path / "model")
    write_photo(tmp_path / "x.jpg", 1)
    (found,) = answerer.predict_bytes(
        [(tmp_path / "x.jpg").read_bytes()], PredictOptions(config.generate, attention=True)
    )
    assert isinstance(found, Prediction)
    for caption in found.captions:
        assert caption.attention is not None
        assert caption.attention.shape == (len(caption.words) + 1, PLACES)
        np.testing.assert_allclose(caption.attention.sum(axis=1), 1, atol=1e-6)
        assert attention_maps(caption)["side"] == SIDE // PATCH
    looks = torch.tensor([[0.5, 0.25, 0.0, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    expected = [[0.5, 0.0, 0.5, 0.0], [0.25, 0.25, 0.25, 0.25]]
    np.testing.assert_allclose(image_attention(answerer.description, looks), expected, atol=1e-6)


def test_no_epochs_keep_it_as_it_was_published(
    folder: Path, elsewhere: Path, ours: MultitaskModel, tokenizer: Tokenizer
) -> None:
    options = ["--model.backbone.lora.rank", "0", "--data.cache", "true", "--generate.method", "greedy"]
    assert train.main(["--config", experiment(elsewhere, folder, epochs=0), *options]) == 0
    loaded = load_model_folder(Path("runs/tiny/model"))
    with torch.inference_mode():
        grid = loaded.model.backbone.grid(pixels())
        assert torch.equal(grid, ours.backbone.grid(pixels()))
        style, generation = torch.full((PHOTOS,), tokenizer.style("challenge")), loaded.config.generate
        assert loaded.model.generate(grid, style, generation) == ours.generate(grid, style, generation)
    assert list(Path("cache/features").glob("grid-32-*")), "features of a BLIP are cached like any others"


def backbone(**changes: object) -> Backbone:
    return Backbone(replace(BackboneConfig(), **changes))  # type: ignore[arg-type]


SIZES = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}


def test_without_weights_no_file_is_needed_and_sizes_are_checked() -> None:
    vision = SIZES | {"image_size": 16, "patch_size": 8}
    made = backbone(name="blip/nowhere", weights="none", options={"vision": vision})
    assert made.grid(torch.rand(1, 3, 16, 16)).shape == (1, 5, 8)
    with pytest.raises(UserError, match=r"model.backbone.options.vision: .*divisible"):
        backbone(name="blip/nowhere", weights="none", options={"vision": vision | {"num_attention_heads": 3}})


def test_tower_stages_and_checkpointing(folder: Path) -> None:
    name = f"blip/{folder}"
    last = {n for n, p in backbone(name=name, trainable=1).network.named_parameters() if p.requires_grad}
    assert {n.rsplit(".", 1)[0] for n in last if "encoder" not in n} == {"vision.post_layernorm"}
    assert all(n.startswith(("vision.post_layernorm", "vision.encoder.layers.1.")) for n in last)
    assert any(n.startswith("vision.encoder.layers.1.") for n in last)
    gradients = []
    for checkpointing in (False, True):
        tower = backbone(name=name, trainable=-1, checkpointing=checkpointing).train()
        tower(pixels(2)).grid.square().sum().backward()
        gradients.append([p.grad for p in tower.network.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "blip/nobody/nothing"}, r"HF_HUB_OFFLINE is set.*nobody/nothing.*save_pretrained"),
        ({"name": "blip//no/such/folder"}, r"no BLIP at /no/such/folder.*save_pretrained"),
        ({"weights": "weights.safetensors"}, r"model.backbone.weights: a BLIP brings its own"),
        ({"lora": LoraConfig(2, targets="nothing")}, r"model.backbone.lora.targets: 'nothing' fits no layer.*qkv"),
        ({"lora": LoraConfig(2, targets="(")}, r"model.backbone.lora.targets: '\(' fits no layer"),
        ({"lora": LoraConfig(2, targets=r".*\.qkv"), "trainable": 1}, r"trainable and lora.rank exclude each other"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=message) as caught:
        backbone(**({"name": f"blip/{folder}"} | changes))
    assert "\n" not in str(caught.value)


def test_the_decoder_sits_on_its_own_tower_and_words(folder: Path, tokenizer: Tokenizer) -> None:
    config = blip_config(folder)
    with pytest.raises(UserError, match=r"model.decoder: 9 tokens.*its own tokenizer"):
        MultitaskModel(config.model, Backbone(config.model.backbone), 9, 1)
    other = replace(config.model, backbone=BackboneConfig(name="test_resnet", weights="none"))
    with pytest.raises(UserError, match=r"model.decoder.kind: blip sits on its own tower"):
        MultitaskModel(other, Backbone(other.backbone), tokenizer.size, 1)


@pytest.mark.parametrize("package", ["transformers", "peft"])
def test_without_the_extra_one_line_says_what_to_install(
    folder: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    with pytest.raises(UserError, match=rf"need {package}: make setup, or pip install {package}$"):
        make(blip_config(folder), tokenizer)


def test_files_that_lack_tensors_are_refused(folder: Path, tmp_path: Path) -> None:
    """transformers would leave them random."""
    shutil.copytree(folder, tmp_path / "part")
    state = load_file(folder / "model.safetensors")
    part = {name: tensor for name, tensor in state.items() if not name.startswith("vision_model.encoder.layers.1.")}
    save_file(part, tmp_path / "part/model.safetensors", {"format": "pt"})
    message = r"do not fit a BLIP: \d+ of its \d+ tensors are missing, such as vision_model\.encoder\.layers\.1"
    with pytest.raises(UserError, match=message):
        Backbone(blip_config(tmp_path / "part").model.backbone)
