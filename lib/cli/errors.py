"""How a command ends that cannot do what it was asked for: with a sentence and an exit code."""

from __future__ import annotations

import errno
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape

from lib.cli.options import console
from lib.pipeline.secrets import masked
from lib.runtime.errors import UserError

BAD_INPUT, FAULT = 2, 1  # exit codes
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Make room there."),
    errno.ENAMETOOLONG: "Choose a shorter name.",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "Allow more open files (ulimit -n)."),
}
_WRITABLE = "Is the folder writable? --conf work_dir=… keeps our files elsewhere."


@contextmanager
def ending_in_a_sentence() -> Iterator[None]:
    """Print what an exception says and end: 2 for an input that people can correct, 1 for a fault of ours.

    Raises:
        SystemExit: In place of any exception but `KeyboardInterrupt`.
    """
    try:
        yield
    except UserError as err:
        _end(str(err), BAD_INPUT, err)
    except OSError as err:
        _end(f"{err}. {_ADVICE.get(err.errno or 0, _WRITABLE)}", BAD_INPUT, err)
    except Exception as err:
        with tempfile.NamedTemporaryFile("w", prefix="mdal-ciml-", suffix=".log", delete=False) as report:
            report.write(masked("".join(traceback.format_exception(err))))
        _end(
            f"something went wrong in the program ({type(err).__name__}). {report.name} says what; send it "
            "to whoever looks after the program.",
            FAULT,
            err,
        )


def _end(sentence: str, code: int, cause: Exception) -> None:
    console.print(f"[red]{escape(masked(sentence))}[/]", highlight=False)
    raise SystemExit(code) from cause
