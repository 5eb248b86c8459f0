"""The configuration of a run: typed dataclasses, read from YAML files and the command line.

A YAML file may include other files by paths relative to itself: `include: [data/real.yaml, model/classic.yaml]`.
A later file wins over an earlier one, the file over its includes, the command line over all.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]
Above0 = Annotated[float, Gt(0)]
AtLeast0 = Annotated[float, Ge(0)]
Port = Annotated[int, Interval(ge=0, le=65535)]
Fraction = Annotated[float, Interval(ge=0, lt=1)]
Minutes = Annotated[float, Interval(ge=0, le=1_000_000)]  # two years: the timer that stops training has a limit
Seed = Annotated[int, Interval(ge=0, le=2**32 - 1)]  # numpy's limit


@dataclass
class SourceConfig:
    """A data set on disk.

    Args:
        format: format of its files: samsung (train.csv and photos), flickr8k (token file or captions.txt), flickr30k
            (results.csv), coco (annotations or Karpathy json), pseudo_labels (a model's predictions of further photos,
            for training only), or any file of src/data/formats or a folder of SRC_PLUGINS.
        path: folder of the data set.
        name: name in splits, scores and style tokens; empty: the format's name.
        captions: caption file, relative to path; empty: the format's usual names are tried. Of pseudo_labels the table
            of predictions, relative to the current folder or to path.
        images: folder of photos, relative to path; empty: the format's usual names are tried.
        split: official (the data set's own lists, or Karpathy's json), random (by photo, in the parts data.val and
            data.test), auto (official where the data set has one, else random), shifted (for validation, the clusters
            of backbone features that are farthest from the rest), or leaking_pairs (photo-caption pairs at random).
            With leaking_pairs, most test photos are also in training: it serves only to measure this leak. Each pair
            is scored by its own caption, without mos.
        share: share of an epoch's photos, relative to the shares of the other sources; 0: its number of photos.
        style: style token of its captions; empty: its name.
        weight: factor on the losses of its photos.
    """

    format: str = "samsung"
    path: str = ""
    name: str = ""
    captions: str = ""
    images: str = ""
    split: Literal["official", "random", "auto", "shifted", "leaking_pairs"] = "random"
    share: AtLeast0 = 0.0
    style: str = ""
    weight: Above0 = 1.0


@dataclass
class TokenizerConfig:
    """The tokenizer, from words of captions to token ids.

    Args:
        kind: word (split at spaces and punctuation) or bpe.
        min_count: words with fewer occurrences in training become <unk> (word).
        size: maximum size of the vocabulary, with special tokens.
        max_length: maximum number of a caption's tokens, with style and end tokens; longer captions are cut.
    """

    kind: Literal["word", "bpe"] = "word"
    min_count: Count = 5
    size: Count = 20000
    max_length: Annotated[int, Ge(3)] = 30


@dataclass
class CleanConfig:
    """Rules that clean training captions, in this order; a caption without a word left is removed.

    Args:
        markup: replace HTML entities, and remove HTML tags and the signs of Markdown.
        urls: remove web and mail addresses.
        greetings: remove greetings, thanks and laughter.
        repeats: write words, short phrases and punctuation once that are repeated at once.
        non_english: remove captions of another script than Latin, or with more function words of another language than
            English ones.
    """

    markup: bool = False
    urls: bool = False
    greetings: bool = False
    repeats: bool = False
    non_english: bool = False


@dataclass
class DataConfig:
    """Images and their labels.

    Args:
        sources: data sets of the run; several are mixed.
        val: fraction of the photos for validation, where the split is random.
        test: fraction of the photos for the test, where the split is random.
        folds: number of folds of the random sources' train and validation photos, stratified by mos; 0: no folds.
        fold: number of the fold for validation, from 0.
        train_on_val: train on the validation photos too; the model has no score of its own.
        exclude: file of photos that training and validation leave out: a name on each line, or a CSV with img_name,
            such as that of `python -m src.prepare audit`, where a row with a caption leaves out this training caption
            alone; empty: none.
        near_duplicates: put near-duplicate photos (another size, quality or format, by a perceptual hash) in the same
            part, as exact copies always are.
        split_seed: seed of random splits.
        split_dir: folder of split files, which keep a split the same between runs.
        caption_size: side of a photo in pixels for captions; -1: the backbone's usual side.
        mos_size: side of a photo in pixels for mos; -1: the backbone's usual side; 0: the photo's own size (at most
            1,024 on its longer side).
        flip: mirror half of the photos in training, and average mos over both sides in prediction.
        augment_captions: change colours, crop and blur photos without mos (without feature cache only).
        captions_per_photo: captions of a photo in a training step, drawn anew each time; 0: all.
        captions_weighting: chance of a photo's captions to be drawn: uniform, or ngram (higher where their n-grams are
            frequent in the training captions).
        clean: cleaning of training captions; the captions of evaluation stay as they are.
        cache: compute a frozen backbone's features once and train on them.
        cache_dir: folder of these features.
        workers: number of processes that load photos.
        tokenizer: the tokenizer.
    """

    sources: list[SourceConfig] = field(default_factory=list)
    val: Fraction = 0.1
    test: Fraction = 0.0
    folds: Whole = 0
    fold: Whole = 0
    train_on_val: bool = False
    exclude: str = ""
    near_duplicates: bool = False
    split_seed: Seed = 0
    split_dir: str = "cache/splits"
    caption_size: Annotated[int, Interval(ge=-1)] = -1
    mos_size: Annotated[int, Interval(ge=-1)] = -1
    flip: bool = True
    augment_captions: bool = False
    captions_per_photo: Whole = 5
    captions_weighting: Literal["uniform", "ngram"] = "uniform"
    clean: CleanConfig = field(default_factory=CleanConfig)
    cache: bool = True
    cache_dir: str = "cache/features"
    workers: Whole = 0
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)


@dataclass
class LoraConfig:
    """Low-rank adaptation (LoRA, Hu et al. 2022) of layers: W x + alpha / rank B A x; B and A are trained, W is not.

    Args:
        rank: rank of B and A; 0: no adaptation.
        alpha: scale of the addition, as in the formula.
        dropout: dropout on the input of A.
        targets: layers to adapt, as a regular expression of whole module names.
    """

    rank: Whole = 0
    alpha: float = 32.0
    dropout: Fraction = 0.05
    targets: str = ""


@dataclass
class BackboneConfig:
    """The shared image network.

    Args:
        name: a timm model name, torchvision/googlenet, or blip/ and a BLIP's folder or hub name for its vision tower.
        weights: imagenet (from the hub; a BLIP's own weights from its folder or the hub), bundled (ImageNet weights
            from a Python package, for tf_efficientnet_lite0, lite1 and lite2), none, or a local file or model folder.
        fallback: network that takes this one's place, with its bundled weights, where weights is imagenet and the hub
            does not answer; empty: an error.
        options: arguments of timm.create_model, such as {pad_type: same}; for a BLIP with weights none, the sizes of
            its two parts in transformers' names: {vision: {hidden_size: 768, ..}, text: {..}}.
        mean: mean of the input's normalisation, for RGB in 0..1; empty: from the model's own config.
        std: standard deviation of the input's normalisation, for RGB in 0..1; empty: from the model's own config.
        levels: layers whose mean and standard deviation over space the mos head reads, as a regular expression of
            module names with outputs [B, C, H, W], such as `blocks\\.\\d+\\.\\d+\\.bn2$`; empty: every stage.
        trainable: number of stages to train, from the last; 0: frozen; -1: all. With data.cache, the feature store
            holds the output of the layers below them.
        fixed_norm: keep the statistics of batch norm in trained stages too, since the tasks' images differ in size.
        lora: low-rank adaptation of the attention's input layers, instead of trained stages.
        checkpointing: compute activations again in the backward pass, which is slower and needs less memory (in a
            MobileNetV3-Large at 300 px, an eighth).
    """

    name: str = "mobilenetv2_100"
    weights: str = "imagenet"
    fallback: str = ""
    options: dict = field(default_factory=dict)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    levels: str = ""
    trainable: Annotated[int, Ge(-1)] = 0
    fixed_norm: bool = False
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(targets=r".*\.qkv"))
    checkpointing: bool = False

    @property
    def frozen(self) -> bool:
        """Whether training leaves the features as they are."""
        return self.trainable == 0 and self.lora.rank == 0

    @property
    def cacheable(self) -> bool:
        """Whether training leaves the first layers as they are, so that a feature store can hold their output."""
        return self.trainable >= 0 and self.lora.rank == 0


@dataclass
class MosBackboneConfig:
    """A frozen network beside model.backbone, whose level statistics the mos head reads too.

    Args:
        name: as of model.backbone; empty: model.backbone itself, at other sizes.
        weights: as of model.backbone.
        options: as of model.backbone.
        mean: as of model.backbone.
        std: as of model.backbone.
        levels: as of model.backbone.
        sizes: sides of a photo in pixels, each with statistics of its own; -1 and 0: as of data.mos_size; empty:
            data.mos_size.
    """

    name: str = ""
    weights: str = "imagenet"
    options: dict = field(default_factory=dict)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    levels: str = ""
    sizes: list[Annotated[int, Ge(-1)]] = field(default_factory=list)


@dataclass
class MosViewsConfig:
    """Views of a photo, each also mirrored (data.flip), whose mos prediction averages. Training reads whole photos.

    Args:
        tiles: number of rows and of columns of a grid of tiles that stand beside the whole photo; 1: no tiles.
        overlap: part of a tile's side that the next tile shares.
        scales: factors of the photo's size for mos; tiles are cut at each.
    """

    tiles: Annotated[int, Interval(ge=1, le=8)] = 1
    overlap: Fraction = 0.25
    scales: list[Above0] = field(default_factory=lambda: [1.0])

    @property
    def whole(self) -> bool:
        """Whether the photo as training reads it is the only view."""
        return self.tiles == 1 and self.scales == [1.0]


@dataclass
class MosConfig:
    """The mos head and its losses; a loss of weight 0 is left out.

    Args:
        enabled: train the head.
        kind: mlp (a perceptron, trained by the losses), or a regression that is fitted once to the cached features of
            all training photos: ridge, svr (support vectors), gbm (gradient-boosted trees), ordinal (ridge for a
            distribution over bins), or any file of src/models/mos_heads.
        backbones: further networks, or further sizes of model.backbone, whose level statistics stand beside those of
            model.backbone (with data.cache only).
        views: tiles and scales whose mos prediction averages.
        hidden: number of hidden units of mlp; 0: a linear head.
        dropout: dropout of mlp after normalisation and after the hidden layer.
        options: settings of this kind only, from the dataclass Options in its file. A key of the kind's name is short
            for it: `svr: {c: 10}`. The settings of another kind are checked and ignored.
        losses: of mlp, weights by name: mse (mean squared error, in standard deviations of the training mos), huber
            (in the same unit), plcc (1 - PLCC over the batch), rank (pairwise rank hinge over the batch), or any file
            of src/models/losses. `plcc: 1` beside this key is short for `losses: {plcc: 1}`. mse has weight 1 by
            default.
    """

    enabled: bool = True
    kind: str = "mlp"
    backbones: list[MosBackboneConfig] = field(default_factory=list)
    views: MosViewsConfig = field(default_factory=MosViewsConfig)
    hidden: Whole = 64
    dropout: Fraction = 0.3
    options: dict = field(default_factory=dict)
    losses: dict[str, AtLeast0] = field(default_factory=lambda: {"mse": 1.0})


@dataclass
class DecoderConfig:
    """The caption decoder.

    Args:
        enabled: train the decoder.
        kind: recurrent (the photo is the initial state and is attended to), merge (words and photo are encoded apart
            and then merged), llama (LLaMA-3 blocks with cross-attention), blip (the text decoder of the BLIP whose
            vision tower is the backbone, with its own tokenizer; of the keys below it reads label_smoothing and lora
            only), or any file of src/models/decoders.
        cell: recurrent cell, lstm or gru.
        layers: number of recurrent layers.
        attention: none, bahdanau, or gated (bahdanau with a gate on the context vector; recurrent).
        attention_size: number of hidden units of the attention.
        image: use of the photo as the initial state or as the first input (recurrent).
        doubly_stochastic: weight of the penalty on grid cells with too little or too much attention over a caption.
        bidirectional: read the words before the next one in both directions (merge).
        embedding: size of word vectors.
        hidden: number of units of the recurrent state.
        dropout: dropout before the output layer and between layers; in a LLaMA block, on the output of each branch.
        word_dropout: dropout on word vectors.
        grid_dropout: dropout on the photo's grid of features.
        tied: share the word vectors with the output layer, through a projection where sizes differ.
        label_smoothing: label smoothing of the cross-entropy.
        options: settings of this kind only, from the dataclass Options in its file. A key of the kind's name is short
            for it: `llama: {dim: 512}`. The settings of another kind are checked and ignored.
        lora: low-rank adaptation of blip; rank above 0: only the additions and the style's vectors are trained; rank 0:
            all weights are trained.
    """

    enabled: bool = True
    kind: str = "recurrent"
    cell: Literal["lstm", "gru"] = "lstm"
    layers: Annotated[int, Interval(ge=1, le=3)] = 1
    attention: Literal["none", "bahdanau", "gated"] = "gated"
    attention_size: Count = 256
    image: Literal["state", "input"] = "state"
    doubly_stochastic: AtLeast0 = 0.0
    bidirectional: bool = False
    embedding: Count = 256
    hidden: Count = 512
    dropout: Fraction = 0.5
    word_dropout: Fraction = 0.5
    grid_dropout: Fraction = 0.5
    tied: bool = True
    label_smoothing: Fraction = 0.1
    options: dict = field(default_factory=dict)
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(targets=r".*\.(query|value)"))


@dataclass
class ModelConfig:
    """Backbone and heads.

    Args:
        backbone: the shared image network.
        mos: the mos head.
        decoder: the caption decoder.
        task_weights: fixed (the two weights below) or learned (homoscedastic uncertainty, Kendall et al. 2018).
        mos_weight: weight of the mos loss, where task_weights is fixed.
        caption_weight: weight of the caption loss, where task_weights is fixed.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    mos: MosConfig = field(default_factory=MosConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    task_weights: Literal["fixed", "learned"] = "fixed"
    mos_weight: AtLeast0 = 1.0
    caption_weight: AtLeast0 = 1.0


@dataclass
class RewardConfig:
    """The reward of a sampled caption: the weighted sum of its scores; a score of weight 0 is not computed.

    Args:
        cider_d: weight of CIDEr-D (0 to 10, about 0.5 on new photos), with document frequencies of the training photos.
        bleu_4: weight of the caption's BLEU-4 (0 to 1).
        rouge_l: weight of ROUGE-L (0 to 1).
    """

    cider_d: AtLeast0 = 1.0
    bleu_4: AtLeast0 = 0.0
    rouge_l: AtLeast0 = 0.0


@dataclass
class SelfCriticalConfig:
    """Self-critical training: rewards of sampled captions (Rennie et al. 2017), in the last epochs of a run.

    Args:
        epochs: number of self-critical epochs, at the end of the run; the epochs before learn from the references.
        reward: reward of a caption.
        samples: number of sampled captions per photo; the baseline of each is the mean reward of the others.
        temperature: temperature of the samples and of the policy. Near 1, samples are poor and training improves
            captions that beam search never writes.
        cross_entropy: weight of the references' cross-entropy beside the reward; at 0, the probabilities of words that
            are never sampled drift until captions become useless.
        lr: peak learning rate of the heads in these epochs.
        dropout: use the decoder's dropout in these epochs.
        ema: decay of the moving average of weights in these epochs, which start from the average of the epochs before;
            0: train.ema stays. Without train.ema there is no average.
    """

    epochs: Whole = 0
    reward: RewardConfig = field(default_factory=RewardConfig)
    samples: Annotated[int, Ge(2)] = 5
    temperature: Above0 = 0.5
    cross_entropy: AtLeast0 = 0.2
    lr: Above0 = 1e-4
    dropout: bool = False
    ema: Fraction = 0.0


@dataclass
class TrainConfig:
    """The training loop.

    Args:
        epochs: number of passes over the training photos; 0: save the initial model, such as a published BLIP.
        stop_after: number of epochs after which training ends, with the learning rate that `epochs` gives them; 0: no
            earlier end.
        minutes: time limit of training in minutes; 0: no limit.
        batch_size: number of photos in a batch; auto: the largest power of two that fits the GPU's memory, 64 on a CPU,
            found before training. It changes no other key.
        lr: peak learning rate of the heads; auto: found before training by a learning-rate range test.
        backbone_lr: peak learning rate of the backbone's trained stages.
        layer_decay: factor on the learning rate from each layer of a trained backbone to the layer before it; 1: the
            same rate for all layers.
        weight_decay: weight decay of AdamW, on matrices only.
        schedule: learning rate after the warm-up: cosine, plateau or constant.
        warmup: fraction of all steps in which the learning rate rises.
        precision: number format of the layers: 32, bf16, fp16, or auto (bf16 where the machine supports it, else 32).
        accumulate: number of batches in a step of the optimiser.
        clip: maximum norm of the gradient; 0: no clipping.
        ema: decay of the moving average of weights; 0: no average.
        patience: number of epochs without a better score before training stops; 0: no early stop.
        start_from: model folder or run with the initial weights; empty: training from scratch.
        self_critical: self-critical training.
        select: score whose highest value selects the best epoch: the name of a score, or auto (both heads' scores).
        checkpoint_steps: number of steps between two checkpoints within an epoch; 0: checkpoints after epochs only.
        eval_every: number of epochs between two evaluations with generated captions.
        eval_photos: maximum number of validation photos with generated captions in an evaluation; 0: all.
        seed: seed of all random numbers.
        threads: number of torch's CPU threads; 0: torch's default.
        cpus: number of processor cores that Ray reserves for each of several workers; 0: the number of threads, at
            least 1.
        compile: use torch.compile for LLaMA blocks: about a tenth faster on a CPU, after a minute of compilation. It
            needs a C++ compiler.
        workers: number of processes that share each batch, each on a GPU or on CPU cores of this machine or the Ray
            cluster. An interrupted run may resume with another number.
        runs: folder of run folders; with workers on several machines, a folder that all of them share.
    """

    epochs: Whole = 10
    stop_after: Whole = 0
    minutes: Minutes = 0.0
    batch_size: Count | Literal["auto"] = 64
    lr: Above0 | Literal["auto"] = 1e-3
    backbone_lr: Above0 = 1e-4
    layer_decay: Annotated[float, Interval(gt=0, le=1)] = 1.0
    weight_decay: AtLeast0 = 0.01
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    warmup: Fraction = 0.05
    precision: Literal["auto", "32", "bf16", "fp16"] = "32"
    accumulate: Count = 1
    clip: AtLeast0 = 5.0
    ema: Fraction = 0.0
    patience: Whole = 0
    start_from: str = ""
    self_critical: SelfCriticalConfig = field(default_factory=SelfCriticalConfig)
    select: str = "auto"
    checkpoint_steps: Whole = 0
    eval_every: Count = 1
    eval_photos: Whole = 0
    seed: Seed = 0
    threads: Whole = 0
    cpus: AtLeast0 = 0.0
    compile: bool = False
    workers: Count = 1
    runs: str = "runs"

    @property
    def peak_lr(self) -> float:
        """The learning rate of the heads, once it is found; it is infinite before."""
        return math.inf if isinstance(self.lr, str) else self.lr

    @property
    def batch(self) -> int:
        """The number of images in a batch, once it is found; it is 1 before."""
        return 1 if isinstance(self.batch_size, str) else self.batch_size

    @property
    def written_epochs(self) -> int:
        """The number of epochs that learn from the references, before the self-critical epochs."""
        return self.epochs - self.self_critical.epochs


@dataclass
class RerankConfig:
    """Choice of a caption among candidates, the beam's captions and samples, by its expected reward.

    Args:
        enabled: choose so. The model folder then holds the training captions and features, which training writes at its
            end and `python -m src.prepare neighbours` writes for a trained model.
        neighbours: number of nearest training photos whose captions stand for the photo's own.
        consensus: weight of the reward against the other candidates, 0 to 1; the rest is that against the neighbours'
            captions.
        reward: cider_d (CIDEr-D), or challenge (the challenge's sum without METEOR: 4 CIDEr-D + BLEU-3 + BLEU-4 +
            ROUGE-L).
        samples: number of samples beside the beam's captions.
        temperature: temperature of the samples.
    """

    enabled: bool = False
    neighbours: Count = 60
    consensus: Annotated[float, Interval(ge=0, le=1)] = 0.0
    reward: Literal["cider_d", "challenge"] = "cider_d"
    samples: Whole = 20
    temperature: Above0 = 0.7


@dataclass
class GenerationConfig:
    """Generation of captions.

    Args:
        method: search method: greedy, beam or nucleus.
        beam: number of captions in the beam.
        length_penalty: exponent of the length by which a caption's log probability is divided.
        no_repeat: length in tokens of sequences that a caption must not repeat; 0: no rule.
        max_length: maximum number of words.
        temperature: temperature of nucleus sampling; 0: greedy.
        top_p: probability mass of nucleus sampling.
        seed: seed of nucleus sampling.
        rerank: choice among candidates by expected reward.
    """

    method: Literal["greedy", "beam", "nucleus"] = "beam"
    beam: Count = 3
    length_penalty: AtLeast0 = 0.7
    no_repeat: Whole = 3
    max_length: Count = 24
    temperature: AtLeast0 = 1.0
    top_p: Annotated[float, Interval(gt=0, le=1)] = 0.9
    seed: Seed = 0
    rerank: RerankConfig = field(default_factory=RerankConfig)


@dataclass
class TrackConfig:
    """Tracking by MLflow.

    Args:
        experiment: name of MLflow's experiment.
        name: name of the run and its folder; an interrupted run of the same name is resumed.
        parent: id of the parent run, for trials of a sweep.
    """

    experiment: str = "multitask"
    name: str = ""
    parent: str = ""


@dataclass
class Config:
    """The configuration of a run.

    Args:
        data: photos and tables.
        model: backbone and heads.
        train: the training loop.
        generate: generation of captions.
        track: tracking by MLflow.
        folds: number of folds, each held out by other runs of a group (train alone); 0: no folds.
        seeds: number of runs of each fold, with the seeds train.seed, train.seed + 1, .. (train alone).
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    generate: GenerationConfig = field(default_factory=GenerationConfig)
    track: TrackConfig = field(default_factory=TrackConfig)
    folds: Whole = 0
    seeds: Count = 1


def to_dict(config: Config) -> dict:
    """The config as plain nested dicts, lists, strings and numbers: what YAML and MLflow take."""
    return asdict(config)
