"""Entry point: reads the arguments, calls a verb, turns errors into messages and exit statuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from samullm_tui.cli.arguments import parse
from samullm_tui.domain.errors import SamullmError
from samullm_tui.domain.sanitise import sanitise

__all__ = ["main"]

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb. 0 done, 1 the work failed, 2 the input or the usage is wrong, 130 interrupted."""
    try:
        arguments = parse(sys.argv[1:] if argv is None else list(argv))
        status: int = arguments.verb(arguments)
        sys.stdout.flush()
        return status
    except SamullmError as error:
        for problem in error.problems:
            print(f"samullm-tui: {sanitise(str(problem))}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("samullm-tui: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`): nothing is lost, and nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
