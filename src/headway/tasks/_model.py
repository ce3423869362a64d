"""A model as users hold it: body, head, tokenizer, task and label names in one object."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from headway import registry
from headway.data.lines import find_damage
from headway.errors import ConfigError, FileError, RequestError, nearest
from headway.files import folder, vocabulary
from headway.files.adapter import Adapter, write_adapter
from headway.files.carried import Carried
from headway.files.manifest import write_folder, write_json
from headway.layers.lora import merge_lora
from headway.layers.packed import has_fast_bf16, is_packed, pack, pack_head, precision_of
from headway.memory import keep_freed_memory
from headway.recipe import convert_settings
from headway.tasks._decoders import OnDecoder
from headway.tasks._task import Answer, Body, Head, OnProgress, Rows, Setting, Task
from headway.tasks._writing import TextStream, check_length, prompt_ids, score_texts
from headway.text.tokenizer import Tokenizer

FORMAT = 1
# What tokenizer_config.json calls the roles of special tokens, by the kind of body.
_FILLERS = {"pad_token": "pad", "unk_token": "unknown"}
_ROLES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "encoder": {"cls_token": "start", "sep_token": "end", **_FILLERS, "mask_token": "mask"},
        "decoder": {"bos_token": "start", "eos_token": "end", **_FILLERS},
        "encoder_decoder": {"eos_token": "end", **_FILLERS},
    }
)
PRECISIONS = ("fp32", "bf16", "int8")
# Columns that may hold a list of texts, and those that hold none.
_LISTS = ("words", "choices")
_NO_TEXTS = ("spans", "messages")


def make_task(name: str, settings: Mapping[str, Any], *, where: str = "") -> Task:
    """Build a task from its key and settings.

    Args:
        name: A file in tasks/.
        settings: Field -> value, in the field's type or as words of a flag.
        where: File, for messages.
    Raises:
        ConfigError: for an unknown task, an unknown setting or a value out of range.
    """
    task_class = registry.load_class("tasks", name)
    task = task_class(**convert_settings("task", settings, task_class, where=where))
    if problems := task.check():
        raise ConfigError("task: " + "; ".join(problems), where=where)
    return task


class Model:
    """Text in, answers out: everything that is saved, loaded and served together.

    Args:
        body: The network.
        tokenizer: Text <-> ids.
        task: What it does.
        task_name: Key of the task.
        architecture: Key of the body's file.
        head: A small network on top, where the task brings one.
        labels: Names of the classes, in the order of the logits.
        summary: How it was trained, for people.
        kind: Kind of head, a key of the architecture's HEADS; None: the task's.
        notes: What a user should know of how it was loaded, a sentence each.
        carried: What others' files said beside, to be written back.
        adapter: Whose weights the body's adapters belong to, where it has any.
        fresh: Parts of the body that the folder lacked, which are to be trained.
    """

    def __init__(
        self,
        body: Body,
        tokenizer: Tokenizer,
        task: Task,
        *,
        task_name: str,
        architecture: str,
        head: Head = None,
        labels: tuple[str, ...] = (),
        summary: Mapping[str, Any] | None = None,
        kind: str | None = None,
        notes: Sequence[str] = (),
        carried: Carried | None = None,
        adapter: Adapter | None = None,
        fresh: Sequence[str] = (),
    ) -> None:
        if body.kind not in task.bodies:
            raise ConfigError(
                f"task {task_name} needs a body of kind {' or '.join(task.bodies)}, but "
                f"{architecture} is an {body.kind}"
            )
        self.body, self.head, self.tokenizer, self.task = body, head, tokenizer, task
        self.task_name, self.architecture, self.labels = task_name, architecture, labels
        self.summary = dict(summary or {})
        self.kind, self.notes = kind or task.head, tuple(notes)
        self.carried, self.adapter = carried or Carried(), adapter
        self.fresh = tuple(fresh)

    @property
    def setting(self) -> Setting:
        """Give what the task needs to know of this model."""
        return Setting(
            tokenizer=self.tokenizer,
            max_tokens=self.body.config.max_tokens,
            labels=self.labels,
            is_decoder=self.body.kind == "decoder",
        )

    @property
    def precision(self) -> str:
        """Say what it computes in: "fp32", or what it was packed for inference in."""
        return precision_of(self.body)

    def predict(
        self, records: Rows, *, progress: OnProgress = None, **settings: Any
    ) -> list[Answer]:
        """Answer records, in order; an answer never depends on its neighbours.

        Args:
            records: Dicts with the task's input columns, such as {"source": "..."}.
            progress: Told how far it is.
            settings: Fields of the task to change for this call, such as num_beams=1.
        Raises:
            RequestError: for a record without the columns needed, or an unknown setting.
        """
        for number, record in enumerate(records, 1):
            for column in (*self.task.inputs, *self.task.optional):
                value = record.get(column) if isinstance(record, Mapping) else None
                if value is None and column in self.task.optional:
                    continue
                if value is not None and column in _NO_TEXTS:
                    continue
                texts: Any = value if column in _LISTS and isinstance(value, list) else [value]
                if not texts or not all(isinstance(text, str) for text in texts):
                    raise RequestError(
                        f"record {number} has no text {column!r}",
                        hint=f"give {', '.join(self.task.inputs)}",
                    )
                if damage := next(filter(None, map(find_damage, texts)), None):
                    raise RequestError(f"{column} of record {number} is {damage}")
            if problem := self.task.check_request(record):
                raise RequestError(f"record {number}: {problem}")
        if not records:
            return []
        keep_freed_memory()
        self.stop_training()
        task = self._task_with(settings)
        return task.predict(self.body, self.head, records, self.setting, progress)

    def stop_training(self) -> None:
        """Switch dropout off: right after an update body and head still have it."""
        self.body.eval()
        if self.head is not None:
            self.head.eval()

    def _task_with(self, settings: Mapping[str, Any]) -> Task:
        if not settings:
            return self.task
        current = dataclasses.asdict(self.task)  # pyright: ignore[reportArgumentType]
        try:
            return make_task(self.task_name, {**current, **settings})
        except ConfigError as error:
            wrong = RequestError(error.message, hint=error.hint)
            # As a flag it is a mistake of usage.
            wrong.exit_code = error.exit_code
            raise wrong from error

    def translate(self, texts: Sequence[str], **settings: Any) -> list[str]:
        """Translate texts.

        Args:
            texts: Source texts, any number; one string is an error, not a list of characters.
            settings: Fields of the task to change for this call, such as num_beams=1.
        Raises:
            RequestError: if this model does not translate.
        """
        if self.task_name != "translation":
            raise RequestError(f"this model does {self.task_name}, not translation")
        if isinstance(texts, str):
            raise RequestError("translate takes a list of texts", hint='write ["..."]')
        answers = self.predict([{"source": text} for text in texts], **settings)
        return [answer["prediction"] for answer in answers]

    def stream(self, prompt: str, **settings: Any) -> TextStream:
        """Go on with a text, piece by piece.

        Args:
            prompt: The text so far; "" begins a new one.
            settings: Fields of the task to change for this call, such as temperature=0.
        Returns:
            stream: Gives pieces of text as they are written; `result()` gives the whole answer.
        Raises:
            RequestError: if this model writes no text, or the prompt is too long.
        """
        if self.body.kind != "decoder" or not isinstance(self.task, OnDecoder):
            raise RequestError(f"this model does {self.task_name}, and goes on with no text")
        task: Any = self._task_with(settings)
        if damage := find_damage(prompt):
            raise RequestError(f"the prompt is {damage}")
        keep_freed_memory()
        self.stop_training()
        return TextStream(self.body, prompt_ids(self.tokenizer, prompt), self.setting, task)

    def reply(self, messages: Sequence[Mapping[str, str]], **settings: Any) -> TextStream:
        """Answer the last message of a conversation, piece by piece.

        Args:
            messages: {"role", "content"} each; the last one by "user".
            settings: Fields of the task to change for this call.
        Raises:
            RequestError: if this model holds no conversations, or turns are in the wrong order.
        """
        if self.task_name != "chat":
            raise RequestError(f"this model does {self.task_name}, and holds no conversations")
        task: Any = self._task_with(settings)
        if problem := task.check_request({"messages": list(messages)}):
            raise RequestError(problem)
        self.stop_training()
        return task.reply(self.body, messages, self.setting)

    def score(self, texts: Sequence[str], *, prompt: str = "") -> list[dict[str, Any]]:
        """Say how probable texts are, token by token.

        Args:
            texts: Any texts.
            prompt: What stands before each of them.
        Returns:
            scores: For each text "log_probability", in nats, "tokens" and "log_probabilities".
        Raises:
            RequestError: if this model goes on with no text, or one is too long.
        """
        self._check_scored(prompt, *texts)
        self.stop_training()
        rows = self._scored_ids(texts, prompt)
        found = score_texts(self.body, rows, self.setting)
        return [
            {
                "log_probability": round(sum(log_probs), 6),
                "tokens": [self.tokenizer.write_piece(number) for number in ids],
                "log_probabilities": [round(value, 6) for value in log_probs],
            }
            for (_, ids), log_probs in zip(rows, found, strict=True)
        ]

    def check_score(self, text: str, *, prompt: str = "") -> None:
        """Raise a RequestError if `score` cannot score a text."""
        self._check_scored(prompt, text)
        ((before, ids),) = self._scored_ids([text], prompt)
        check_length(len(before) + len(ids), self.setting)

    def _check_scored(self, *texts: str) -> None:
        if self.body.kind != "decoder":
            raise RequestError(f"this model does {self.task_name}, and scores no text")
        if damage := next(filter(None, map(find_damage, texts)), None):
            raise RequestError(f"a text is {damage}")

    def _scored_ids(self, texts: Sequence[str], prompt: str) -> list[tuple[list[int], list[int]]]:
        """Encode what stands before each text, and the text."""
        before = prompt_ids(self.tokenizer, prompt)
        return [(before, ids) for ids in self.tokenizer.encode_ids(texts, bare=True)]

    def to_precision(self, precision: str, *, packed: bool = False) -> Model:
        """Give this model for inference in another precision; this one is left as it is.

        Args:
            precision: "fp32", "bf16", "int8" (integers, for CPUs), or "auto": bf16 where the
                hardware multiplies it.
            packed: Pack single precision too: text is then written twice as fast, by a model that
                can be neither trained nor saved.
        Raises:
            ConfigError: for another word.
            RequestError: if this one is packed already, as what was rounded is gone; or for
                integers on another device than a CPU.
        """
        device = next(self.body.parameters()).device.type
        if precision == "auto":
            precision = "bf16" if device == "cuda" or has_fast_bf16() else "fp32"
        if precision not in PRECISIONS:
            known = ("auto", *PRECISIONS)
            raise ConfigError(f"precision is {precision!r}", hint=nearest(precision, known))
        if precision == self.precision and not (packed and precision == "fp32"):
            return self
        if is_packed(self.body):
            raise RequestError(
                f"this model is packed for inference in {self.precision} and cannot become "
                f"{precision} again",
                hint="load it anew",
            )
        if precision == "int8" and device != "cpu":
            raise RequestError(f"int8 is for CPUs, but this model is on {device}")
        fast = copy.copy(self)
        fast.body = pack(self.body, precision)
        fast.head = None if self.head is None else pack_head(self.head, precision)
        return fast

    def merge(self) -> Model:
        """Give this model with its adapters made part of its weights; this one is left as it is.

        Raises:
            RequestError: if it has none.
        """
        if self.adapter is None:
            raise RequestError("this model has no adapter that could be merged")
        merged = copy.copy(self)
        merged.body, merged.adapter = copy.deepcopy(self.body), None
        merge_lora(merged.body)
        return merged

    def save(self, model_dir: str | Path) -> None:
        """Write the model folder, whole or not at all; one that holds a model is replaced.

        Raises:
            FileError: if it cannot be written, or holds something else.
            RequestError: if this model is packed for inference.
        """
        if is_packed(self.body):
            raise RequestError(
                f"this model is packed for inference in {self.precision}; its weights are rounded "
                "and rearranged",
                hint='load it with precision="fp32" to save it',
            )
        path = Path(model_dir).absolute()
        if path.exists() and not path.is_dir():
            raise FileError(f"{model_dir} is no folder", hint="choose another place")
        if path.is_dir() and any(path.iterdir()) and not (path / "headway.json").is_file():
            raise FileError(
                f"{model_dir} holds something else than a model of ours",
                hint="choose a new folder; this one would be replaced",
            )
        write_folder(path, self._write_files)

    def _write_files(self, draft: Path) -> None:
        on_top: dict[str, Any] = {"kind": self.kind, "head": self.head}
        if self.adapter is None:
            folder.write_model(
                draft,
                self.architecture,
                self.body,
                labels=self.labels,
                problem=getattr(self.task, "problem_type", ""),
                carried=self.carried.config,
                **on_top,
            )
        else:
            write_adapter(draft, self.architecture, self.body, self.adapter, **on_top)
        longest = self.body.config.max_tokens
        names = self.tokenizer.special_names()
        roles = _ROLES[self.body.kind].items()
        special = {theirs: names[ours] for theirs, ours in roles if ours in names}
        vocabulary.write_tokenizer(
            draft,
            self.tokenizer.to_json(),
            special=special,
            has_segments=getattr(self.body.config, "type_vocab_size", 1) > 1,
            max_tokens=min(self.carried.max_tokens or longest, longest),
            chat_template=getattr(self.task, "jinja", lambda _: "")(self.tokenizer),
        )
        generation = self.task.generation(self.setting)
        if generation is not None:
            folder.write_generation_config(draft, generation)
        settings = dataclasses.asdict(self.task)  # pyright: ignore[reportArgumentType]
        own = {
            "format": FORMAT,
            "architecture": self.architecture,
            "task": {"name": self.task_name, **settings},
            "labels": list(self.labels),
            **({} if self.adapter is None else {"base": dict(self.adapter.weights)}),
            "training": self.summary,
        }
        write_json(draft / "headway.json", own)
