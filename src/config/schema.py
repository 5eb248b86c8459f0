"""What a run is: typed dataclasses, read from YAML files and the command line.

An experiment's YAML may name others to start from, relative to itself: `include: [data/real.yaml, model/classic.yaml]`.
Later files win over earlier ones, the file over its includes, the command line over all.
"""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval

Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]
Above0 = Annotated[float, Gt(0)]
AtLeast0 = Annotated[float, Ge(0)]
Port = Annotated[int, Interval(ge=0, le=65535)]
Fraction = Annotated[float, Interval(ge=0, lt=1)]
Minutes = Annotated[float, Interval(ge=0, le=1_000_000)]  # two years; the clock that stops training ends somewhere
Seed = Annotated[int, Interval(ge=0, le=2**32 - 1)]  # what numpy takes


@dataclass
class SourceConfig:
    """One data set on disk.

    Args:
        format: how it is laid out, by the name of a file in src/data/formats: samsung (train.csv and photos), flickr8k
            (token file or captions.txt), flickr30k (results.csv), coco (annotations or Karpathy json), or a format of
            a folder in SRC_PLUGINS.
        path: its folder.
        name: its name in splits, scores and style tokens; the format's name if empty.
        captions: the caption file, relative to path; empty: the format's usual names are tried.
        images: the folder of photos, relative to path; empty: the format's usual names are tried.
        split: official (the data set's own lists, or Karpathy's json), random (by photo, see DataConfig), or
            leaking_pairs (photo-caption pairs at random: most test photos are then in training too, which is
            dishonest and serves only to measure the leak; each pair is scored by its own caption, mos is left out).
        share: its part of an epoch's photos, relative to the other sources' shares; 0: as many as it has.
        style: the caption style token it trains; empty: its name.
    """

    format: str = "samsung"
    path: str = ""
    name: str = ""
    captions: str = ""
    images: str = ""
    split: Literal["official", "random", "leaking_pairs"] = "random"
    share: AtLeast0 = 0.0
    style: str = ""


@dataclass
class TokenizerConfig:
    """The tokenizer.

    Args:
        kind: word (split at spaces and punctuation) or bpe.
        min_count: a word that training has less often becomes <unk> (word).
        size: most entries in the vocabulary, special ones included.
        max_length: most tokens of a caption, style and end tokens included, so 3 at least; longer ones are cut.
    """

    kind: Literal["word", "bpe"] = "word"
    min_count: Count = 5
    size: Count = 20000
    max_length: Annotated[int, Ge(3)] = 30


@dataclass
class DataConfig:
    """Images and their labels.

    Args:
        sources: the data sets; several are mixed.
        val: part of the photos held out for validation, where the split is random.
        test: part of the photos held out for a test, where the split is random.
        folds: cut the random sources' train and validation photos into this many folds, stratified by mos; 0: no folds.
        fold: which fold is the validation part, from 0.
        split_seed: seed of random splits.
        split_dir: where splits are written, so that they never change under a run.
        caption_size: photo side in pixels for captions; -1: the side that the backbone was made for.
        mos_size: the same for mos; 0: the photo's own size (at most 1,024 on its longer side).
        flip: show the mirrored photo half of the time in training, and average mos over both in prediction.
        augment_captions: colour, crop and blur for photos that carry no mos (live pixels only).
        captions_per_photo: captions of a photo in one training step, drawn anew each time; 0: all.
        cache: compute a frozen backbone's features once and train on them.
        cache_dir: the folder of these features.
        workers: processes that load photos.
        tokenizer: words of captions to token ids.
    """

    sources: list[SourceConfig] = field(default_factory=list)
    val: Fraction = 0.1
    test: Fraction = 0.0
    folds: Whole = 0
    fold: Whole = 0
    split_seed: Seed = 0
    split_dir: str = "cache/splits"
    caption_size: Annotated[int, Interval(ge=-1)] = -1
    mos_size: Annotated[int, Interval(ge=-1)] = -1
    flip: bool = True
    augment_captions: bool = False
    captions_per_photo: Whole = 5
    cache: bool = True
    cache_dir: str = "cache/features"
    workers: Whole = 0
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)


@dataclass
class LoraConfig:
    """Low-rank adaptation (Hu et al. 2022) of layers: W x + alpha / rank B A x, where B and A are trained and W is not.

    Args:
        rank: of B and A; 0: none.
        alpha: see above.
        dropout: on what A sees.
        targets: which layers: a regular expression of whole module names.
    """

    rank: Whole = 0
    alpha: float = 32.0
    dropout: Fraction = 0.05
    targets: str = ""


@dataclass
class BackboneConfig:
    """The shared image network.

    Args:
        name: any timm model name, torchvision/googlenet, or blip/ and a BLIP's folder or hub name: its vision tower.
        weights: imagenet (from the hub; a BLIP's own, from its folder or the hub), none, or a local file.
        options: further arguments of timm.create_model, such as {pad_type: same}; of a BLIP with weights none, the
            sizes of its two parts: {vision: {hidden_size: 768, ..}, text: {..}}, as transformers names them.
        mean: of the input's normalisation, RGB of photos in 0..1; empty: from the model's own config.
        std: likewise.
        levels: which layers' mean and deviation over space the mos head sees: empty, every stage; else a regular
            expression of module names, such as `blocks\\.\\d+\\.\\d+\\.bn2$`, whose outputs are [B, C, H, W].
        trainable: last stages to train: 0 is frozen, -1 is all.
        lora: train low-rank additions instead of stages; its targets are the attention's input layers.
        checkpointing: trade time for memory in the backward pass (in a MobileNetV3-Large at 300 px an eighth is left).
    """

    name: str = "mobilenetv2_100"
    weights: str = "imagenet"
    options: dict = field(default_factory=dict)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    levels: str = ""
    trainable: Annotated[int, Ge(-1)] = 0
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(targets=r".*\.qkv"))
    checkpointing: bool = False

    @property
    def frozen(self) -> bool:
        """Whether training leaves the features as they are."""
        return self.trainable == 0 and self.lora.rank == 0


@dataclass
class MosConfig:
    """The mos head and its losses; a loss of weight 0 is left out.

    Args:
        enabled: train it.
        hidden: units of the hidden layer; 0: linear.
        dropout: after normalisation and after the hidden layer.
        losses: weights by name: mse (mean squared error, in standard deviations of the training mos), huber (likewise),
            plcc (1 - PLCC over the batch), rank (pairwise rank hinge over the batch), or any file of src/models/losses.
            `plcc: 1` beside this key is short for `losses: {plcc: 1}`; mse counts 1 unless it is given.
    """

    enabled: bool = True
    hidden: Whole = 64
    dropout: Fraction = 0.3
    losses: dict[str, AtLeast0] = field(default_factory=lambda: {"mse": 1.0})


@dataclass
class DecoderConfig:
    """The caption decoder.

    Args:
        enabled: train it.
        kind: recurrent (the photo is where it starts and what it attends to), merge (the caption so far is read apart
            from the photo), llama (LLaMA-3 blocks with cross-attention), blip (the text decoder of the BLIP whose
            vision tower is the backbone, with its own words; of the keys below it takes label_smoothing and lora
            alone), or any file of src/models/decoders.
        cell: lstm or gru.
        layers: of the cell, 1 to 3.
        attention: none, bahdanau, or gated (likewise, with a gate on what it reads; recurrent).
        attention_size: units of the attention's hidden layer.
        image: the photo as initial state or as first input (recurrent).
        doubly_stochastic: weight of the penalty on places that attention looks at too little or too much.
        bidirectional: read the caption so far backwards too (merge).
        embedding: size of word vectors.
        hidden: units of the recurrent state.
        dropout: ahead of the output weights and between layers; on what each branch of a LLaMA block adds.
        word_dropout: on word vectors.
        grid_dropout: on the photo's grid.
        tied: use the word vectors as output weights too (needs a projection where sizes differ).
        label_smoothing: of the cross-entropy.
        options: settings that this kind alone has: the dataclass Options in its file. A key of the kind's name is short
            for it: `llama: {dim: 512}`. A kind that is not chosen has its group checked and left out.
        lora: of blip, rank above 0: train low-rank additions and the style's vectors alone; rank 0: train all of it.
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
        mos: the quality head.
        decoder: the caption head.
        task_weights: fixed (see below) or learned (homoscedastic uncertainty, Kendall et al. 2018).
        mos_weight: weight of the mos loss, where fixed.
        caption_weight: weight of the caption loss, where fixed.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    mos: MosConfig = field(default_factory=MosConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    task_weights: Literal["fixed", "learned"] = "fixed"
    mos_weight: AtLeast0 = 1.0
    caption_weight: AtLeast0 = 1.0


@dataclass
class RewardConfig:
    """The reward of a sampled caption: a sum of scores, each with a weight, 0 to leave it out.

    Args:
        cider_d: CIDEr-D with the training photos' document frequencies, 0 to 10, some 0.5 on unknown photos.
        bleu_4: BLEU-4 of the single caption, 0 to 1.
        rouge_l: ROUGE-L, 0 to 1.
    """

    cider_d: AtLeast0 = 1.0
    bleu_4: AtLeast0 = 0.0
    rouge_l: AtLeast0 = 0.0


@dataclass
class SelfCriticalConfig:
    """Captions learned from their own scores (Rennie et al. 2017), in the last epochs of a run.

    Args:
        epochs: so many of the last ones; 0: none. The others learn from the captions as written.
        reward: what a caption is worth.
        samples: captions drawn for a photo; the mean reward of the others is each one's baseline.
        temperature: of the policy: samples are drawn from it, and it learns. Near 1 they are poor, and most is learned
            of what a beam never writes.
        cross_entropy: weight of the captions as written beside the reward; without it, words that are never drawn drift
            until the policy falls apart.
        lr: peak learning rate of the heads in those epochs.
        dropout: keep the decoder's dropout in those epochs.
        ema: decay of the moving average of weights in those epochs, which then begin at the average of the epochs
            before; 0: train.ema goes on. Without train.ema there is no average.
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
        epochs: passes over the training photos; 0: keep the model as it begins, such as a BLIP as it was published.
        minutes: stop after this many minutes of training; 0: no limit.
        batch_size: photos in a step.
        lr: peak learning rate of the heads.
        backbone_lr: peak learning rate of the backbone's trained stages.
        weight_decay: of AdamW, on matrices only.
        schedule: cosine, plateau or constant, each after warm-up.
        warmup: part of all steps in which the learning rate rises.
        precision: 32, bf16, fp16, or auto: bf16 where the machine computes in it, else 32.
        accumulate: batches for one step of the optimiser.
        clip: largest norm of the gradient; 0: no clipping.
        ema: decay of the moving average of weights; 0: none.
        patience: epochs without a better score before it stops; 0: never.
        start_from: a model folder or run whose weights training starts from; empty: from scratch.
        self_critical: captions learned from their own score.
        select: the score that chooses the best epoch, its highest: auto (both heads' together), or one by name.
        checkpoint_steps: also checkpoint every so many steps within an epoch; 0: at epochs' ends only.
        eval_every: epochs between two evaluations with generated captions.
        eval_photos: most validation photos to caption at such an evaluation; 0: all.
        seed: of everything random.
        threads: CPU threads of torch; 0: as torch chooses.
        cpus: processor cores that Ray sets aside for each of several workers; 0: as many as threads, at least 1.
        compile: torch.compile for LLaMA blocks: about a tenth faster on a CPU after a minute of compiling, so for long
            runs. It needs a C++ compiler.
        workers: processes that share each batch, one a GPU, or on the CPU; on a Ray cluster wherever there is room.
            A run that was cut short may go on with another number of them.
        runs: folder of run folders; with workers on several machines, a folder that all of them share.
    """

    epochs: Whole = 10
    minutes: Minutes = 0.0
    batch_size: Count = 64
    lr: Above0 = 1e-3
    backbone_lr: Above0 = 1e-4
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
    def written_epochs(self) -> int:
        """Epochs that learn from the captions as written: all but the self-critical ones, which are the last."""
        return self.epochs - self.self_critical.epochs


@dataclass
class GenerationConfig:
    """How captions are written.

    Args:
        method: greedy, beam or nucleus.
        beam: captions kept at each step.
        length_penalty: a finished caption's log probability is divided by its length to this power.
        no_repeat: no sequence of this many tokens twice in a caption; 0: no rule.
        max_length: most words.
        temperature: of nucleus sampling; 0: greedy.
        top_p: probability mass of nucleus sampling.
        seed: of nucleus sampling.
    """

    method: Literal["greedy", "beam", "nucleus"] = "beam"
    beam: Count = 3
    length_penalty: AtLeast0 = 0.7
    no_repeat: Whole = 3
    max_length: Count = 24
    temperature: AtLeast0 = 1.0
    top_p: Annotated[float, Interval(gt=0, le=1)] = 0.9
    seed: Seed = 0


@dataclass
class TrackConfig:
    """MLflow.

    Args:
        experiment: the experiment that runs are filed under.
        name: the run's name, and its folder's; a run of the same name that was cut short is gone on with.
        parent: id of the parent run, for trials of a sweep.
    """

    experiment: str = "multitask"
    name: str = ""
    parent: str = ""


@dataclass
class Config:
    """A run.

    Args:
        data: photos and tables.
        model: backbone and heads.
        train: the training loop.
        generate: how captions are written.
        track: MLflow.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    generate: GenerationConfig = field(default_factory=GenerationConfig)
    track: TrackConfig = field(default_factory=TrackConfig)


def to_dict(config: Config) -> dict:
    """The config as plain nested dicts, lists, strings and numbers: what YAML and MLflow take."""
    return asdict(config)
