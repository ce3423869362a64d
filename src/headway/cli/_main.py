"""The command line: finds the verb, reads its options, turns errors into one line.

Start-up has two stages. Listing the verbs and reading their options needs no torch; only what a
verb then does may import it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence

from headway import __version__, errors, registry
from headway.memory import choose_environment

# In the order of a first day with the program: what makes a model, and what uses one.
_ORDER = (
    *("quickstart", "recipes", "new", "find-lr", "train"),
    *("evaluate", "predict", "translate", "fill", "embed", "inspect"),
)

# What torch says when the machine has no more, on a CPU and on a GPU.
_LACK_OF_MEMORY = re.compile(r"can't allocate memory|out of memory")

_HEAD = """\
Text in, a model you own out.

  headway quickstart                                learn to read dates in 59 locales
  headway train multi30k-transformer --data.train train.de train.en --out run
  headway translate run/model "ein Hund rennt"

"""

# Whose process mostly trains; see `memory`.
_TRAINING_VERBS = ("train", "quickstart", "find-lr")


def _verbs() -> dict[str, str]:
    """List the verbs, each with its file, as the help shows them."""
    found = {key.replace("_", "-"): key for key in registry.list_keys("cli")}
    return {verb: found[verb] for verb in (*_ORDER, *found) if verb in found}


def _help() -> str:
    rows = [f"  {verb:<11} {registry.summary('cli', key)}" for verb, key in _verbs().items()]
    tail = "\n\nheadway VERB --help says more. --debug shows the traceback of an error.\n"
    return _HEAD + "Verbs:\n" + "\n".join(rows) + tail


def _fail(text: str) -> None:
    # A name that is not UTF-8 must not break the message that shows it.
    line = text.encode("utf-8", "backslashreplace").decode()
    sys.stderr.write(f"headway: {line}\n")


def _run(words: list[str]) -> int:
    if not words:
        sys.stderr.write(_help())
        return errors.EXIT_USAGE
    if words[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return errors.EXIT_DONE
    if words[0] == "--version":
        sys.stdout.write(f"headway {__version__}\n")
        return errors.EXIT_DONE
    verb, arguments = words[0], words[1:]
    choose_environment(is_training=verb in _TRAINING_VERBS)
    verbs = _verbs()
    if verb not in verbs:
        _fail(f"there is no verb {verb!r}: {errors.nearest(verb, verbs, count=2)}")
        return errors.EXIT_USAGE
    module = registry.load_module("cli", verbs[verb])
    from headway.cli._options import parse

    module.run(parse(module, verb, arguments))
    return errors.EXIT_DONE


def _prepare_streams() -> None:
    """Make sure that there are streams, and that results are UTF-8 as the data is."""
    # A stream that was closed before we started is None.
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def _drop_output() -> None:
    """Let what is still to be written go nowhere, so that the end of the process is quiet."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: Exception) -> str:
    """Describe an error that no part of ours foresaw."""
    if isinstance(error, MemoryError) or _LACK_OF_MEMORY.search(str(error)):
        return (
            "there is not enough memory: lower training.micro-batch-tokens, the beams or the "
            "model's sizes"
        )
    if isinstance(error, OSError) and error.strerror:
        what = f"{error.filename} cannot be used" if error.filename else "reading or writing failed"
        return f"{what}: {error.strerror}"
    return f"unexpected {type(error).__name__}: {error}. Run again with --debug and report it."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Words after the program's name; by default those of the process.
    Returns:
        code: 0 done, 1 failed, 2 usage, 75 stopped with a checkpoint saved, 130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        _prepare_streams()
        code = _run([word for word in words if word != "--debug"])
        sys.stdout.flush()
    except errors.HeadwayError as error:
        if debug:
            raise
        _fail(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _fail("interrupted")
        return errors.EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left, as `head` does; that is no error.
        _drop_output()
        return errors.EXIT_DONE
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else errors.EXIT_USAGE
    except Exception as error:
        if debug:
            raise
        _fail(" ".join(_explain(error).split()))
        if isinstance(error, OSError):
            _drop_output()
        return errors.EXIT_FAILED
    return code


if __name__ == "__main__":
    sys.exit(main())
