"""Training on DeepSpeed through transformers' Trainer, the same in any number of processes.

What Trainer decides for itself and we decide otherwise:

- the loss: the weighted mean over the global batch (Trainer's own grows with the number of
  processes and accumulation steps, because the encoders take ``**kwargs``; transformers #47688);
- the batches: ``cleantune.training.batches``;
- evaluation: every document exactly once, in its own order, whatever the number of processes;
- checkpoints: ``cleantune.training.checkpoints``, atomic, with the history of the run.
"""

import json
import math
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from cleantune import console, files
from cleantune.distributed import connection, ranks
from cleantune.errors import UserError
from cleantune.models import long_documents
from cleantune.params.sections import Finetune
from cleantune.training import (
    batches,
    deepspeed_config,
    lora,
    losses,
    memory,
    optimizers,
    saved_model,
    training_logs,
    validation,
)
from cleantune.training.checkpoints import Checkpoints
from cleantune.training.stopping import StopRequest

LABELS = {"macro_f1": "macro-F1"}


class ZeroTrainer(Trainer):
    """Fine-tune ``model`` on ``train``; evaluate each epoch on ``validation``; keep the best.

    ``validation_metrics`` maps logits (documents, classes) and labels (documents,) to metrics, among
    them ``macro_f1``, which selects the best epoch and, with the loss, decides when to stop early.
    """

    evaluates_first = False
    memory_params: ClassVar = memory.MEMORY_PARAMS
    """What makes a run need less memory, by its key in params.yaml."""
    instability_hint = "Lower lr, clip harder (finetune.max_gradient_norm) or set precision: fp32"

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        train: batches.TokenDataset,
        validation: batches.TokenDataset,
        *,
        padding_id: int,
        batch_size: int,
        validation_metrics: Callable[[NDArray[np.float32], NDArray[np.int64]], dict[str, float]],
        checkpoints: Checkpoints,
        options: Finetune,
    ) -> None:
        super().__init__(model, args)
        self.remove_callback(PrinterCallback)
        self.add_callback(_Schedule(self))
        logs = training_logs.ROOT / checkpoints.folder.parent.name / checkpoints.folder.name
        if options.tensorboard:
            self.add_callback(training_logs.TensorBoard(logs, lambda: self.history[-1]))
        if options.profiler:
            self.add_callback(training_logs.Profiler(logs))
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = True
        self.train_dataset = train
        self.validation = validation
        self.collators: list[Any] = [
            batches.Collator(data, padding_id) for data in (train, validation)
        ]
        self.batch_size = batch_size
        self.validation_metrics = validation_metrics
        self.checkpoints = checkpoints
        self.options = options
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] = {}
        self.predicted: list[int] = []  # on validation, by the last evaluated model
        self.best_predicted: list[int] = []  # by the best
        self.before: dict[str, float] = {}  # training
        self.stop = StopRequest()
        self.bar: console.Bar | None = None
        self._step_loss = torch.zeros((), device=args.device)
        self._step_rows: list[int] = []
        self._gradient_norm = torch.zeros(())

    # ---- training ------------------------------------------------------------------------------

    def fit(self) -> None:
        """Train to the end, from the newest checkpoint of this very run if there is one."""
        latest = self.checkpoints.latest()
        if latest:
            record = files.read_json(latest / "history.json")
            self.history, self.best, self.before, self.best_predicted = (
                record[k] for k in ("history", "best", "before", "best_predicted")
            )
            console.say(f"resuming from the checkpoint of step {self.history[-1]['step']}")
        total = int(self.steps_per_epoch * self.args.num_train_epochs)
        try:
            with self.stop.watched(), console.Bar("training", total) as self.bar:
                if latest:
                    self.bar.advance(int(self.history[-1]["step"]))
                self.train(resume_from_checkpoint=str(latest) if latest else None)
        except (RuntimeError, MemoryError) as error:
            if memory.ran_out(error):
                message = memory.out_of_memory(self.memory_run(), self.memory_params)
                raise UserError(message) from None
            if "does not have a deterministic implementation" in str(error):
                raise UserError(
                    f"{str(error).partition('. ')[0]}. Set finetune.deterministic to false, which "
                    "fine-tunes without; pretrain and label_noise need another base model, or a CPU."
                ) from None
            if connection.lost_touch(error):
                met = str(error).partition("\n")[0]
                raise UserError(
                    "This process has lost touch with another process: killed, out of memory, or its "
                    f"host or network is down; its own output may say. {self._last_checkpoint_note()}"
                    f"The same command, on every host, goes on from there.\nIt met: {met}"
                ) from None
            raise

    @property
    def steps_per_epoch(self) -> int:
        """Return how many optimizer steps one pass over the training documents takes."""
        return len(self.get_train_dataloader()) // self.args.gradient_accumulation_steps

    def get_train_dataloader(self) -> batches.Loader:
        """Return this process's micro-batches."""
        args, data = self.args, self.train_dataset
        assert isinstance(data, batches.TokenDataset)
        share = batches.Share(
            data,
            self.batch_size,
            args.seed,
            ranks.rank(),
            ranks.world_size(),
            args.gradient_accumulation_steps,
        )
        return batches.Loader(share, data, self.collators[0])

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: ARG002 - Trainer's signature
        num_items_in_batch: Any = None,  # noqa: ARG002
    ) -> torch.Tensor:
        """Return this micro-batch's part of the weighted mean loss of the global batch."""
        # R-Drop's two passes are one of twice the documents: dropout differs from row to row.
        passes = 2 if self.options.r_drop else 1
        logits = model(
            input_ids=inputs["input_ids"].repeat(passes, 1),
            attention_mask=inputs["attention_mask"].repeat(passes, 1),
        ).logits.float()
        logits = torch.cat([_by_document(part, inputs) for part in logits.chunk(passes)])
        each = losses.classification(
            logits, inputs["labels"], self.options.label_smoothing, self.options.r_drop,
            inputs.get("soft"),
        )  # fmt: skip
        loss: torch.Tensor = (each * inputs["weights"]).sum()
        if self.options.l1:
            penalty = optimizers.l1(self.accelerator.unwrap_model(model))
            loss = loss + self.options.l1 * penalty / self.args.gradient_accumulation_steps
        return loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Return the optimizer that the params ask for."""
        if self.optimizer is None:
            learning: Any = model or self.model
            self.optimizer = optimizers.build(learning, self.args.learning_rate, self.options)
            if self.zero_stage == 0:
                self.optimizer.register_step_pre_hook(self._clip_gradients)
        return self.optimizer

    @property
    def zero_stage(self) -> int:
        """Which of the optimizer's states, gradients and weights the processes divide: 0 for none."""
        deepspeed: Any = self.args.deepspeed
        return int(deepspeed["zero_optimization"]["stage"])

    def gradient_norm(self) -> float:
        """Return the norm of the step's gradients, of all parameters together, before clipping."""
        deepspeed: Any = self.deepspeed
        return float(
            self._gradient_norm if self.zero_stage == 0 else deepspeed.get_global_grad_norm()
        )

    def _clip_gradients(self, *_: Any) -> None:
        limit = self.options.max_gradient_norm or math.inf
        model: Any = self.model
        self._gradient_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Run one micro-batch; note its loss and documents for ``synchronize_step``."""
        self._step_rows += inputs.pop("rows")
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._step_loss += loss
        return loss

    def synchronize_step(self, rate: float, norm: float) -> float:
        """Return the step's loss over all processes, and learn whether any was told to stop.

        Raises ``UserError`` when the loss or the gradient's norm is not finite, with what is needed
        to look into it; with such a gradient the weights are lost.
        """
        shared = torch.stack([self._step_loss, self._step_loss.new_tensor(self.stop.received)])
        if ranks.world_size() > 1:
            deepspeed: Any = self.deepspeed  # whose group waits no longer than a step may take
            torch.distributed.all_reduce(shared, group=deepspeed.data_parallel_group)
        loss = shared[0].item() / ranks.world_size()
        # A signal that came after the exchange counts from the next step on, in all processes alike.
        self.stop.agreed = (self.stop.received or signal.SIGTERM) if shared[1].item() else 0
        rows = self._step_rows
        self._step_loss.zero_()
        self._step_rows = []
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = "gradient's norm" if math.isfinite(loss) else "loss"
            data = self.train_dataset
            assert isinstance(data, batches.TokenDataset)
            ids = sorted({data.ids[i].as_py() for part in ranks.gather(rows) for i in part})
            raise UserError(
                f"The {what} is {norm if math.isfinite(loss) else loss} at step {self.state.global_step}, learning rate {rate:.3g}, "
                f"documents {', '.join(ids)}.\n"
                f"{self.instability_hint}. {self._last_checkpoint_note()}"
            )
        return loss

    def raise_if_stopped(self) -> None:
        """Raise ``Stopped`` where a signal came too late for a checkpoint: nothing else shall begin."""
        self.stop.raise_if_stopped(
            "stopped at the end of this run; the same command goes on from there"
        )

    # ---- evaluation ----------------------------------------------------------------------------

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Evaluate on all validation documents, note it, and keep the model if it is the best."""
        measured = self.validate()
        epoch = round(self.state.epoch or 0)
        self.history[-1] |= {f"validation_{name}": value for name, value in measured.items()}
        better = not self.best or self.selection_metric(measured) > self.selection_metric(self.best)
        if better:
            self.best = {"epoch": epoch, "step": self.state.global_step, **measured}
            self.best_predicted = self.predicted
            self._keep_best()
        losses = [past["loss"] for past in self.history[-self.steps_per_epoch :]]
        console.say(
            f"epoch {epoch}: loss {np.mean(losses):.3f}, validation "
            + ", ".join(f"{LABELS.get(k, k)} {value:.3f}" for k, value in measured.items())
            + (", best" if better else "")
        )
        stale = validation.epochs_without_improvement(self.history, int(self.best["epoch"]), epoch)
        if stale >= self.options.early_stopping_patience:
            self.control.should_training_stop = True
            self.control.should_save = False
        self.callback_handler.on_evaluate(self.args, self.state, self.control, measured)
        return measured

    def validate(self) -> dict[str, float]:
        """Return the loss and the metrics of the model on validation as it is now."""
        logits = self.predict_all()
        labels = self.validation.labels
        self.predicted = logits.argmax(axis=1).tolist()
        loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
        return {"loss": loss.item(), **self.validation_metrics(logits, labels)}

    def selection_metric(self, measured: dict[str, float]) -> float:
        """Return the metric that selects the best epoch; more is better."""
        return measured["macro_f1"]

    def logits(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """Return the model's logits for a batch: (documents, classes)."""
        logits: torch.Tensor = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).logits
        return _by_document(logits, inputs)

    def kept_values(self, logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:  # noqa: ARG002
        """Return what validation keeps of a prediction: (documents, values)."""
        return logits

    def predict_all(self) -> NDArray[np.float32]:
        """Return the ``kept_values`` of every validation document, (documents, values)."""

        def predict(model: Any, batch: dict[str, Any]) -> torch.Tensor:
            inputs = self._prepare_inputs(batch)
            return self.kept_values(self.logits(model, inputs).float(), inputs)

        return validation.predict_all(self.model_wrapped, self.validation, self.collators[1],
                                      self.args.per_device_eval_batch_size, predict)  # fmt: skip

    # ---- keeping -------------------------------------------------------------------------------

    @property
    def best_folder(self) -> Path:
        """The folder with the weights of the best epoch so far."""
        return self.checkpoints.best(int(self.best["step"]))

    def _keep_best(self) -> None:
        """Write the weights, gathered from all processes, as a Hugging Face folder; of LoRA what learns."""
        model: Any = self.model
        if self.zero_stage == 3:
            deepspeed: Any = self.deepspeed
            deepspeed.empty_partition_cache()  # a layer may still be on its way for the next step
        adapters = lora.learned(model) if self.options.lora else None
        write = self.checkpoints.write_best(self.state.global_step)
        with write if ranks.rank() == 0 else nullcontext() as folder:
            if adapters is None:
                saved_model.save(model, folder)
            elif folder:
                lora.save(model, adapters, folder)
        ranks.barrier()

    def _last_checkpoint_note(self) -> str:
        """Return the sentence that names the last checkpoint, if there is one."""
        kept = self.checkpoints.steps()
        return f"The checkpoint of step {kept[-1]} is kept. " if kept else ""

    def memory_run(self) -> memory.Run:
        """Return what the memory of this run depends on."""
        config: Any = self.accelerator.unwrap_model(self.model).config.get_text_config()
        data: Any = self.train_dataset
        return memory.Run(
            batch=self.args.per_device_train_batch_size,
            length=min(int(data.lengths.max()), data.chunk_length or sys.maxsize),
            chunks=len(long_documents.divide(range(data.lengths.max()), data.chunk_length)),
            recomputing=bool(self.args.activation_checkpointing),
            zero=self.zero_stage,
            offload=self.options.offload,
            bf16=hasattr(self.model, "multiplies_in_bf16"),
            model=memory.size(self.model),
            hidden=config.hidden_size,
            layers=config.num_hidden_layers,
            heads=config.num_attention_heads,
            adapters=bool(self.options.lora),
        )

    def _save_checkpoint(self, *_: Any) -> None:
        """Write all that the rest of the run follows from."""
        with self.checkpoints.write(self.state.global_step) as folder:
            self._save_optimizer_and_scheduler(str(folder))
            self._save_rng_state(str(folder))
            if ranks.rank() == 0:
                self.state.save_to_json(str(folder / "trainer_state.json"))
                record = {"history": self.history, "best": self.best, "before": self.before,
                          "best_predicted": self.best_predicted}  # fmt: skip
                (folder / "history.json").write_text(json.dumps(record))
        # Asked again: a signal may have come since the step's exchange, as during an evaluation.
        self.stop.raise_if_stopped(
            f"stopped at step {self.state.global_step}; the same command goes on from there"
        )


def _by_document(logits: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
    """Return the mean logits of each document's chunks, (documents, classes); the same without chunks."""
    if "chunks" not in inputs:
        return logits
    chunks: list[torch.Tensor] = list(torch.split(logits, inputs["chunks"]))
    return torch.stack([part.mean(dim=0) for part in chunks])


class _Schedule(TrainerCallback):
    """When to log, evaluate and save: checkpoints every N steps and after each epoch's evaluation."""

    def __init__(self, trainer: ZeroTrainer) -> None:
        self._trainer = trainer
        self._rate = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Prepare DeepSpeed and the connections; evaluate the model as it is, where that is asked for."""
        deepspeed_config.skip_allreduce_for_single_process(self._trainer.deepspeed)
        connection.watch_hosts()  # on DeepSpeed's connections too
        ranks.barrier()  # nobody is later than the others now: they wait less in a step
        if ranks.rank():  # else all would leave out the same activations
            torch.manual_seed(args.seed + ranks.rank())
        if self._trainer.evaluates_first and not self._trainer.before:
            self._trainer.before = self._trainer.validate()

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Note the learning rate before the scheduler moves on."""
        assert self._trainer.lr_scheduler is not None
        self._rate = float(max(self._trainer.lr_scheduler.get_last_lr()))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Note the step; ask for a checkpoint every N steps, or now when told to stop."""
        trainer = self._trainer
        norm = trainer.gradient_norm()
        loss = trainer.synchronize_step(self._rate, norm)
        trainer.history.append({"step": state.global_step, "epoch": state.epoch, "loss": loss,
                                "learning_rate": self._rate, "gradient_norm": norm})  # fmt: skip
        if trainer.bar:
            trainer.bar.advance(note=f"loss {loss:.3f}")
        due = state.global_step % trainer.options.checkpoint_steps == 0 or trainer.stop.agreed
        # A checkpoint at an epoch's last step would skip that epoch's evaluation when resumed.
        if due and state.global_step % trainer.steps_per_epoch:
            control.should_save = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Evaluate every epoch, and save what it led to unless all is done."""
        control.should_evaluate = True
        control.should_save = state.global_step < state.max_steps
