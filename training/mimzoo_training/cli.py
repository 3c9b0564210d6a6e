"""The command `mimzoo`. Heavy imports stand inside the commands, so `--help` is quick."""

import argparse
import importlib
import logging
import os
import shlex
import sys
from collections.abc import Sequence

from mimzoo_training import errors, output
from mimzoo_training.arguments import build_parser
from mimzoo_training.interrupt import Interrupted

# Where a command is that is not in `commands`. Listings need neither Keras nor a backend.
HOMES = {
    "list_all": "listing",
    "info": "listing",
    "cache": "listing",
    "doctor": "doctor",
    "publish": "publish",
    "predict": "segment_commands",
    **dict.fromkeys(("evaluate", "probe", "classify", "reconstruct"), "preset_commands"),
}
# Their process computes nothing.
WITHOUT_KERAS = {"list_all", "info", "cache", "doctor", "study"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0 if all went well, 1 after an error, printed as one sentence on stderr (2 if the
        arguments are wrong), 130 after Ctrl-C, 143 after SIGTERM.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    with output.steady():
        args = build_parser().parse_args(argv)
        if isinstance(getattr(args, "out", None), str):
            args.out = os.path.expanduser(args.out)  # the shell leaves --out=~/x as it is
        # Files keep it, and arguments need not be UTF-8.
        line = shlex.join(["mimzoo", *argv]).encode("utf-8", "surrogateescape")
        args.command_line = line.decode("utf-8", "backslashreplace")
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    # TensorFlow logs much, and KerasHub imports it on every backend.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings = Warnings()
    logger = logging.getLogger("mimzoo")
    logger.addHandler(warnings)
    try:
        home = HOMES.get(args.run, "commands")
        if home not in ("listing", "doctor"):
            from mimzoo_training import backend

            line = backend.choose(getattr(args, "backend", None))
            if line:
                print(line, file=sys.stderr)
        _import_mimzoo(args.run not in WITHOUT_KERAS)
        commands = importlib.import_module(f"mimzoo_training.{home}")
        code = getattr(commands, args.run)(args)
        warnings.report()
    except Interrupted as stop:
        print(f"mimzoo: {stop}", file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("mimzoo: stopped; the same command resumes from what was saved.", file=sys.stderr)
        return 130
    except Exception as error:
        text = errors.sentence(error)
        if args.debug or text is None:
            raise
        print(f"mimzoo: {text}", file=sys.stderr)
        return 1
    finally:
        logger.removeHandler(warnings)
    return code or 0


def _import_mimzoo(register: bool) -> None:
    """Imports mimzoo, with the classes of its models or without Keras."""
    os.environ["MIMZOO_REGISTER"] = "0"
    try:
        with output.without_native_logs():
            mimzoo = importlib.import_module("mimzoo")
            if register:
                mimzoo.register()
    finally:
        del os.environ["MIMZOO_REGISTER"]  # the processes that this one starts decide themselves


class Warnings(logging.Handler):
    """Prints each warning of the library once; at the end, how many images could not be read."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.printed: set[str] = set()
        self.unreadable: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the message, or keeps it for the end."""
        text = record.getMessage()
        if record.name == "mimzoo.data.reader":
            self.unreadable[text] = None
        elif text not in self.printed:
            self.printed.add(text)
            print(text, file=sys.stderr)

    def report(self) -> None:
        """Prints how many images could not be read, and the first."""
        if self.unreadable:
            first, count = next(iter(self.unreadable)), len(self.unreadable)
            what = "image" if count == 1 else "images"
            print(f"{count} {what} could not be read: {first}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
