"""The sections of params.yaml, with the allowed values."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cleantune.params.fields import Section, Text
from cleantune.params.sources import Dataset, Model

LongDocuments = Literal["head", "head_tail", "chunks"]
Kernels = Literal["fast", "plain"]


class TextSteps(Section):
    """Preprocessing of every text, the same in training and inference."""

    repair: bool
    """Before the other steps; otherwise texts keep their markup."""
    ag_news_artifacts: Literal["auto"] | bool
    """Whether repair undoes AG News' own artifacts too: entities that lost their ampersand
    (`` #39;``), backslashes for line breaks, runs of blanks. auto: if three of the training documents
    and 1 % of them have such entities; data/clean/text_steps.json and the model's summary say which."""
    lowercase: bool
    strip_punctuation: bool
    remove_stop_words: bool


class Clean(TextSteps):
    """Text steps, removal of duplicates, and the validation split."""

    near_duplicate_jaccard: Annotated[float, Field(gt=0, le=1)]
    """Jaccard similarity of word 3-shingles."""
    drop_near_duplicates: bool
    """Otherwise they are kept in one group, which is never split between training and validation."""
    validation_share: Annotated[float, Field(gt=0, le=0.5)]
    """Of the training documents."""


class LabelNoise(Section):
    """Detection of label errors, and the action on flagged labels."""

    model: Literal["tfidf", "encoder", "ensemble", "finetuned"]
    encoder: str
    """Separate from ``model``, so that changing that does not change the labels; ``fetch_models`` finds it,
    unless ``label_noise.model`` is tfidf."""
    epochs: Annotated[int, Field(ge=1, le=1000)]
    """Of the fine-tuning in each fold, as the next two; ``finetune`` has its own, so that another
    learning rate there does not change the labels."""
    lr: Annotated[float, Field(gt=0, le=1)]
    batch_size: Annotated[int, Field(ge=1, le=65536)]
    folds: Annotated[int, Field(ge=2, le=20)]
    prior: Literal["auto", "uniform", "given"]
    """True share of each class. ``uniform`` and ``auto`` are assumptions: if the true classes are not of
    equal size, correct labels of the larger ones are flagged. With ``given``, errors that change the
    class shares are not detected: of human labels of AG News, a fifth of them wrong, the estimated
    noise rate is close to 0, with ``uniform`` close to the true rate."""
    precision: Annotated[float, Field(gt=0, le=1)] | None
    """Expected share of wrong labels among the flagged ones; not a promise."""
    action: Literal["keep", "auto", "soften", "drop", "relabel", "weight"]
    """What happens to the flagged labels. ``auto`` changes those that a reviewed sample shows to be more
    often wrong than right, and softens the others by what it shows. The last four change the training set without review, which helped with a
    fifth of the labels wrong and did harm with a twentieth (docs/results/ag-news.md)."""


class Pretrain(Section):
    """Continued pretraining on the training documents: masked tokens for encoders, next tokens for decoders."""

    epochs: Annotated[int, Field(ge=0, le=1000)]
    lr: Annotated[float, Field(gt=0, le=1)]
    batch_size: Annotated[int, Field(ge=1, le=65536)]
    block_length: Annotated[int, Field(ge=8, le=8192)]
    """Documents are joined and cut into blocks of this many tokens: no padding at all."""
    masked_share: Annotated[float, Field(gt=0, lt=1)]
    """Of a block's tokens; of these 80 % become [MASK], 10 % a random token, 10 % stay."""
    whole_words: bool
    from_scratch: bool
    vocabulary: Annotated[int, Field(ge=300)]
    layers: Annotated[int, Field(ge=1)]
    hidden: Annotated[int, Field(ge=8, multiple_of=8)]
    """Width of the model; about one head of attention for every 32."""

    @model_validator(mode="after")
    def _from_scratch_is_trained(self) -> "Pretrain":
        if self.from_scratch and not self.epochs:
            raise ValueError(
                "pretrain.from_scratch: True is not allowed; allowed: false when pretrain.epochs is "
                "0, which leaves the base model as it is"
            )
        return self


class Augment(Section):
    """Changed copies of training documents, or token cutoff."""

    method: Literal["none", "swap", "synonyms", "masked", "cutoff"]
    copies: Annotated[int, Field(ge=1, le=100)]
    """Of each document; ``cutoff`` makes none and cuts other tokens in each epoch instead."""
    share: Annotated[float, Field(gt=0, lt=1)]
    """Of a document's words, or of its tokens for ``cutoff``; at least one."""


class Baselines(Section):
    """The baselines for comparison."""

    models: list[Literal["ngram", "tfidf", "rnn", "lstm"]]
    """Which to train; the order is that of the tables."""
    ngram_order: Annotated[int, Field(ge=1, le=3)]
    """Words in an n-gram of the language model."""
    tfidf_c: Annotated[float, Field(gt=0)]
    """Inverse strength of the logistic regression's L2 penalty."""
    flipped_shares: list[Annotated[float, Field(gt=0, lt=1)]]
    """Of the training labels; tfidf is trained again with each share of them wrong."""
    word_vectors: Literal["word2vec", "random"]
    """What the recurrent models' embeddings start from; word2vec learns from the training texts."""
    dimensions: Annotated[int, Field(ge=1, le=4096)]
    """Of a word vector."""
    hidden: Annotated[int, Field(ge=1, le=4096)]
    """Units of the recurrent layer, in each direction."""
    epochs: Annotated[int, Field(ge=1, le=1000)]
    """Passes of the recurrent models; the one with the lowest validation loss is kept."""


class Lora(Section):
    """Low-rank adapters: the model's own weights are frozen; these and the head learn."""

    rank: Annotated[int, Field(ge=1)]
    alpha: Annotated[float, Field(gt=0)]
    """The adapters' output is multiplied by alpha / rank; by alpha / sqrt(rank) with ``rslora``."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of the adapters' input."""
    kind: Literal["lora", "dora", "rslora"] = "lora"
    """dora learns the norm of each output beside its direction (arXiv 2402.09353), rslora keeps the
    scale of high ranks (arXiv 2312.03732)."""
    targets: Annotated[list[Text], Field(min_length=1)] | None = None
    """How the names of the layers with adapters end: ``[q_proj, v_proj]``. Null: all linear layers."""


class Finetune(Section):
    """Fine-tuning beyond the headline keys."""

    optimizer: Literal["adamw", "adam", "sgd"]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    scheduler: Literal["linear", "cosine", "constant"]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0, lt=1)]
    """Spares biases and norms."""
    l1: Annotated[float, Field(ge=0)]
    """Times the sum of absolute weights, added to the loss; spares biases and norms."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None
    class_weights: Literal["none", "balanced"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    r_drop: Annotated[float, Field(ge=0)]
    """Weight of half the symmetric KL divergence between two passes; 0 makes one pass."""
    layer_lr_decay: Annotated[float, Field(gt=0, le=1)]
    freeze_embeddings: bool
    freeze_layers: Annotated[int, Field(ge=0)]
    lora: Lora | None
    early_stopping_patience: Annotated[int, Field(ge=1, le=1000)]
    max_gradient_norm: Annotated[float, Field(ge=0)]
    """Global norm of the gradients; 0 does not clip."""
    micro_batch_size: Annotated[int, Field(ge=1)] | None
    """Documents per process and forward pass; the rest of a step uses gradient accumulation."""
    checkpoint_steps: Annotated[int, Field(ge=1)]
    offload: Literal["none", "optimizer", "all"]
    """What DeepSpeed keeps in the host's memory; ``all`` (with ZeRO-3) adds the parameters."""
    gradient_checkpointing: bool
    deterministic: bool
    """Of a GPU; a CPU's algorithms always are."""
    tensorboard: bool
    profiler: bool

    @model_validator(mode="before")
    @classmethod
    def _lora_has_a_section(cls, content: Any) -> Any:
        if isinstance(content, dict) and "lora_rank" in content:
            rank = content["lora_rank"]
            same = (
                f"{{rank: {rank}, alpha: {2 * rank}}}" if isinstance(rank, int) and rank else "null"
            )
            raise ValueError(f"finetune.lora_rank: {rank!r} is now finetune.lora: {same}")
        return content

    @model_validator(mode="after")
    def _lora_learns_alone(self) -> "Finetune":
        if self.lora and self.freeze_layers:
            raise ValueError(
                f"finetune.freeze_layers: {self.freeze_layers!r} is not allowed; allowed: 0 when "
                "finetune.lora is set, which freezes all layers itself"
            )
        return self


class Study(Section):
    """Further seeds, to measure the variance of the metrics."""

    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]]
    """Seeds to fine-tune with beside ``seed``; evaluate reports mean and standard deviation."""


class Evaluate(Section):
    """How the final metrics are computed."""

    threshold: Literal["argmax", "f1", "precision"]
    """Decision threshold for binary classification, fitted on validation for each model. All metrics
    and ``tools.predict`` use it."""
    threshold_precision: Annotated[float, Field(gt=0, le=1)]
    """Required of the positive class on validation, with threshold ``precision``."""
    positive: Text | None
    """Name of the positive class; null: the last one."""
    answer_accuracy: Annotated[float, Field(gt=0, lt=1)]
    """Accuracy of the answers of ``tools.predict --abstain``. The confidence above which the model answers is
    fitted on validation so that they reach it with a probability of 95 %."""
    calibration_bins: Annotated[int, Field(ge=2, le=1000)]
    """Of equal width, for the expected calibration error."""
    robustness_documents: Annotated[int, Field(ge=1)]
    """Test documents that are predicted again with typos, in lower case, and so on."""
    explained_mistakes: Annotated[int, Field(ge=0, le=1000)]
    """The most confident ones, shown in the report with the words that contributed to them."""


class Params(Section):
    """All of params.yaml."""

    dataset: str
    model: str
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    lr: Annotated[float, Field(gt=0, le=1)]
    epochs: Annotated[int, Field(ge=1, le=1000)]
    batch_size: Annotated[int, Field(ge=1, le=65536)]
    max_length: Annotated[int, Field(ge=8, le=8192)]
    """Tokens that the model reads at once, special ones included."""
    long_documents: LongDocuments
    """What is read of a document of more tokens: the beginning; the first quarter and the last three
    quarters of what fits; or all of it in chunks of up to ``max_length`` tokens, the logits of which
    are averaged, in training and in use."""
    max_chunks: Annotated[int, Field(ge=1, le=1024)]
    """Of a document, with ``long_documents: chunks``; what follows is not read. It bounds memory: all
    chunks of a document are computed at once."""
    zero_stage: Literal["auto"] | Annotated[int, Field(ge=0, le=3)]
    precision: Literal["auto", "bf16", "fp32"]
    kernels: Kernels
    """Of pretraining and fine-tuning on a CPU: faster attention and dropout, and a last layer for the
    first token alone; or the model as transformers has it. Results differ by rounding, and by which
    activations dropout zeroes."""
    processes: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)]
    models: dict[str, Model]
    datasets: dict[str, Dataset]
    clean: Clean
    label_noise: LabelNoise
    pretrain: Pretrain
    augment: Augment
    baselines: Baselines
    finetune: Finetune
    study: Study
    evaluate: Evaluate

    @model_validator(mode="after")
    def _dataset_is_listed(self) -> "Params":
        if self.dataset not in self.datasets:
            raise ValueError(
                f"dataset: {self.dataset!r} is not allowed; allowed: "
                f"{', '.join(self.datasets)} (the entries of `datasets`)"
            )
        return self

    @model_validator(mode="after")
    def _a_threshold_is_for_two_classes(self) -> "Params":
        """Where params.yaml lists the classes; `evaluate` knows them in any case."""
        source = self.datasets[self.dataset]
        classes = len(set((source.hub or source).labels.values()))
        if classes > 2 and self.evaluate.threshold != "argmax":
            raise ValueError(
                f"evaluate.threshold: {self.evaluate.threshold!r} is not allowed; allowed: argmax, for "
                f"{self.dataset} has {classes} classes and a threshold is for two"
            )
        return self

    @model_validator(mode="after")
    def _a_model_from_scratch_reads_its_blocks_alone(self) -> "Params":
        if self.pretrain.from_scratch and self.max_length > self.pretrain.block_length:
            raise ValueError(
                f"max_length: {self.max_length} is not allowed; allowed: up to pretrain.block_length "
                f"({self.pretrain.block_length}) with pretrain.from_scratch, or make that longer"
            )
        return self
