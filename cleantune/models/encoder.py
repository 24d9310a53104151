"""Finding and loading a base model, and the embeddings of texts by a frozen one."""

import importlib.util
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cleantune import console, files
from cleantune.errors import UserError
from cleantune.models import pooling, weights
from cleantune.params.sources import Model

FILES = ("*.json", "*.txt", "*.model", weights.WEIGHTS, f"*_Dense/{weights.WEIGHTS}")
"""What of a base model's folder is read, beside shards: * crosses folders, 1_Pooling/config.json is one of these."""
MODEL, ENCODER = Path("models/base/model.json"), Path("models/base/encoder.json")
"""The base model to fine-tune, and the encoder of the label models; see ``stages.fetch_models``."""
PRETRAINED = Path("models/pretrained")
POINTER = "base_model.json"
AGAIN = "dvc repro --force --single-item fetch_models"
RECORD = "pretraining.json"
PINNED = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{40})")  # a model on the Hub, and its commit

COUNT_FROM_PADDING = (  # RoBERTa's family: the first position is padding_idx + 1
    "camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip


def find(model: str, models: dict[str, Model], fetch: bool = True) -> Path:
    """Return the folder that holds a base model's files.

    ``model`` is a local folder, an entry of ``models`` or ``owner/name@commit`` on the Hub; an entry
    is looked for in its Python package, then on the Hub at its pinned revision (fetched once, into
    the Hub's own cache; without ``fetch`` it has to be there).
    Only safetensors weights are accepted: they cannot carry code.
    Raises ``UserError`` when nothing is found or the weights are not the pinned ones.
    """
    if Path(model).is_dir():
        return _checked(Path(model), None, whole=fetch)
    if pinned := PINNED.fullmatch(model):
        models = {model: Model(hub=pinned[1], revision=pinned[2], package=None, sha256=None)}
    if model not in models:
        raise UserError(
            f"model: {model!r} is neither a folder nor an entry of `models` in params.yaml "
            f"({', '.join(models)}), nor owner/name@commit with the 40 digits of a commit on the Hub."
        )
    entry = models[model]
    spec = importlib.util.find_spec(entry.package) if entry.package else None
    if spec and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0]) / "model"
    else:
        folder = _from_hub(entry, fetch)
    return _checked(folder, entry.sha256, whole=fetch)


def pretrained_folder(pretrained: Path = PRETRAINED) -> Path:
    """Return the folder with the files of the model that fine-tuning starts from.

    That is ``pretrained`` itself after pretraining, else the base model its pointer names.
    Raises ``UserError`` when it is missing, or when a file of the base model has changed since.
    """
    if weights.of(pretrained):
        return _checked(pretrained, None)
    return recorded_folder(pretrained / POINTER)


def recorded_folder(pointer: Path) -> Path:
    """Return the folder of the base model that ``stages.fetch_models`` recorded; uses no network.

    Raises ``UserError`` when ``pointer`` is missing or names no model, when the model is not on this
    machine, or when one of its files has changed since.
    """
    record = files.read_json(pointer)
    model, entry = record["model"], record["entry"]
    if model is None:
        raise UserError(f"{pointer} names no model: none was needed when it was written. "
                        "Run `dvc repro fetch_models`.")  # fmt: skip
    folder = find(model, {model: Model(**entry)} if entry else {}, fetch=False)
    before, now = record["files"], _hashes(folder)
    if before != now:
        changed = sorted(n for n in {**before, **now} if before.get(n) != now.get(n))
        raise UserError(
            f"{folder} is not what `fetch_models` recorded; changed: {', '.join(changed)}. "
            f"To go on with what is there now: `{AGAIN}`, then `dvc repro`."
        )
    return folder


def pointer_to(model: str, entry: Model | None, folder: Path) -> dict[str, Any]:
    """Return the record of a base model: its name, and the hash of each file."""
    return {"model": model, "entry": entry.model_dump() if entry else None,
            "files": _hashes(folder)}  # fmt: skip


def _hashes(folder: Path) -> dict[str, str]:
    shards = {path.name for path in weights.of(folder)}
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return {
        name: files.sha256(folder / name)
        for name in names
        if name in shards or any(fnmatch(name, pattern) for pattern in FILES)
    }


def load_silently() -> None:
    """Silence transformers' notes on weights that a checkpoint and a model do not share."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def load_model(kind: Any, folder: Path, **options: Any) -> Any:
    """Return ``kind.from_pretrained(folder)`` with weights in fp32, whatever the checkpoint's are.

    transformers takes the checkpoint's own precision, in which small updates are lost to rounding
    (transformers #46002). ``kind`` is one of its classes; ``options`` go to ``from_pretrained``.
    """
    import torch

    options = {"dtype": torch.float32, **options}
    return kind.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, trust_remote_code=False, **options
    )


def load_mapped(kind: Any, folder: Path, **options: Any) -> Any:
    """Return ``kind.from_pretrained(folder)`` with weights in the precision of their files.

    So they stay in these files, mapped into memory, and take none that the system could not reclaim;
    where the files have several precisions, they are loaded in fp32.
    """
    import torch

    precision = weights.precision(folder)
    return load_model(kind, folder, **options, dtype=getattr(torch, precision or "float32"))


def load_config(folder: Path, **options: Any) -> Any:
    """Return the config in ``folder``; ``UserError`` for an architecture that transformers lacks.

    Left to itself, transformers would ask on the terminal whether to run the folder's own code.
    """
    from transformers import AutoConfig

    options |= {"local_files_only": True, "trust_remote_code": False}
    try:
        return AutoConfig.from_pretrained(folder, **options)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} cannot be loaded: {error}") from None


def is_decoder(model_type: str) -> bool:
    """Tell whether models of a type, such as ``llama``, are trained to predict the next token alone."""
    from transformers.models.auto import modeling_auto

    return (
        model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and model_type not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in ``folder``, which pads at the end and has a token to pad with.

    GPT-2 has none: its end of text serves. It never pads at the start, as GPT-2 tokenizers often
    do: positions are counted from there, so padding would change the logits.
    Raises ``UserError`` when it cannot be loaded or has neither token.
    """
    from transformers import AutoTokenizer

    reader: Any = AutoTokenizer
    try:
        tokenizer = reader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        raise UserError(f"{folder} has no tokenizer that can be loaded: {error}") from None
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(
                f"{folder}: its tokenizer has no token to pad with. Give it a pad_token."
            )
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def position_limit(config: Any) -> int | None:
    """Return the maximum input length in tokens; None where positions are only relative."""
    config = config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or getattr(config, "position_biased_input", True) is False:  # DeBERTa
        return None
    if config.model_type in COUNT_FROM_PADDING:
        positions -= config.pad_token_id + 1
    return int(positions)


def set_padding(config: Any, tokenizer: Any) -> int:
    """Let a model and its tokenizer pad with the same token, and return its id.

    A decoder's classifier reads the last token that is not ``config.pad_token_id``, in whatever a
    tokenizer pads with: where the two differ, a document's scores depend on its company. The
    tokenizer's token goes first, where the model's vocabulary has it, then the end of text, then the
    model's own; that one goes first where the model counts positions from it.
    Raises ``UserError`` when the model's vocabulary has none of them.
    """
    text = config.get_text_config()
    known = [tokenizer.pad_token_id, tokenizer.eos_token_id, text.pad_token_id]
    if text.model_type in COUNT_FROM_PADDING:
        known.reverse()
    for padding_id in known:
        if padding_id is not None and 0 <= padding_id < text.vocab_size:
            text.pad_token_id = padding_id
            if tokenizer.pad_token_id != padding_id:
                tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding_id)
            return int(padding_id)
    raise UserError(
        f"The tokenizer pads with token {tokenizer.pad_token_id}, and the model's vocabulary has "
        f"{text.vocab_size} tokens. Give the tokenizer a pad_token that the model knows."
    )


def pad(tokens: Sequence[Any], padding_id: int) -> tuple[Any, Any]:
    """Return token ids and attention mask, both (documents, tokens), of 1-d tensors of ids.

    Padded at the end. A document without tokens becomes one of padding, which is read: attention
    over nothing is attention over all, and would depend on how much padding there is.
    """
    import torch

    rows = [ids if len(ids) else ids.new_tensor([padding_id]) for ids in tokens]
    lengths = torch.tensor([len(ids) for ids in rows])
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding_id)
    return padded, (torch.arange(padded.shape[1]) < lengths[:, None]).long()


def refuse_longer(key: str, length: int, folder: Path) -> None:
    """Raise ``UserError`` when ``length``, the value of ``key``, is more than the model can read."""
    limit = position_limit(load_config(folder))
    if limit and length > limit:
        raise UserError(f"{key}: {length} is more than the {limit} tokens that the model in {folder} "
                        f"can read. Set {key} to {limit} or less.")  # fmt: skip


def vectors(
    texts: Sequence[str], folder: Path, max_length: int, bf16: bool = False, batch: int = 64
) -> NDArray[np.float32]:
    """Return a unit vector for each text, (texts, size), pooled as the model defines it: see ``pooling``.

    The encoder in ``folder`` is used as it is, on the GPU if there is one; texts are cut at
    ``max_length`` tokens and sorted by length, so that there is hardly any padding. ``bf16``
    runs under bf16 autocast, which is faster where ``precision.bf16_is_fast``.
    Raises ``UserError`` when the folder's files do not fit together.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel

    load_silently()
    tokenizer = load_tokenizer(folder)
    try:
        model = load_model(AutoModel, folder).eval()
        pool = pooling.read(folder)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be loaded as a text encoder: {error}") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    max_length = min(max_length, position_limit(model.config) or max_length)
    tokens = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    order = np.argsort([-len(ids) for ids in tokens], kind="stable")
    padding_id = set_padding(model.config, tokenizer)
    result = np.zeros((len(texts), 0), np.float32)
    autocast = torch.autocast(device, torch.bfloat16, enabled=bf16)
    with torch.inference_mode(), autocast, console.Bar("texts encoded", len(texts)) as bar:
        for rows in np.split(order, range(batch, len(order), batch)):
            some = [torch.tensor(tokens[i], dtype=torch.long) for i in rows]
            ids, mask = (part.to(device) for part in pad(some, padding_id))
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            pooled = torch.nn.functional.normalize(pool(states, mask[:, :, None]), dim=1)
            if not result.size:
                result = np.zeros((len(texts), pooled.shape[1]), np.float32)
            result[rows] = pooled.cpu().numpy()
            bar.advance(len(rows))
    return result


def base_model(pretrained: Path = PRETRAINED) -> str:
    """Return the name of the model that fine-tuning starts from."""
    if (pretrained / POINTER).is_file():
        return str(files.read_json(pretrained / POINTER)["model"])
    base = files.read_json(pretrained / RECORD)["base_model"]
    return "BERT pretrained from scratch" if base == "none" else f"{base}, pretrained further"


def _from_hub(entry: Model, fetch: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError

    def snapshot(names: Sequence[str]) -> Path:
        return Path(snapshot_download(entry.hub, revision=entry.revision, allow_patterns=[*names],
                                      local_files_only=not fetch))  # fmt: skip

    try:
        folder = snapshot(FILES)
        if not (folder / weights.WEIGHTS).is_file() and (shards := weights.shards(folder)):
            snapshot(shards)
    except GatedRepoError:
        raise UserError(
            f"model {entry.hub} is gated: its owner asks who uses it. Accept its licence on "
            f"https://huggingface.co/{entry.hub}, log in with `hf auth login`, and start again."
        ) from None
    except (OSError, ValueError) as error:  # what the Hub's client raises when it cannot be reached
        if not fetch:
            raise UserError(
                f"model {entry.hub}@{entry.revision} is not in the Hub's cache on this machine. "
                f"To fetch it: `{AGAIN}`."
            ) from None
        raise UserError(
            f"model {entry.hub}@{entry.revision} could not be fetched: {error}\n"
            "Reach the Hub once (it is cached), or name a local folder: -S model=PATH."
        ) from None
    return folder


def _checked(folder: Path, sha256: str | None, whole: bool = False) -> Path:
    """Return ``folder`` if it holds a model's config and weights, those of ``sha256`` where given.

    ``whole``: none of them may be missing or cut short. Later on the record tells what has changed.
    """
    if not (folder / "config.json").is_file() or not weights.of(folder):
        raise UserError(
            f"{folder} holds no {weights.WEIGHTS}, whole or in shards, and config.json. What the Hub has as pytorch_model.bin alone "
            "often has a pull request that adds safetensors: name its commit, owner/name@commit."
        )
    if (whole or sha256) and (fault := weights.fault(folder)):
        raise UserError(f"{folder} is damaged or incomplete ({fault}). Fetch it again.")
    if sha256 and (found := weights.sha256(folder)) != sha256:
        raise UserError(
            f"{folder / weights.WEIGHTS} has sha256 {found}, not the pinned {sha256}. "
            "Delete it and fetch it again."
        )
    return folder
