"""Finds where the statements of an SQL script begin: PostgreSQL reports how many it has executed, but not where."""

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | --[^\r\n]* )
  | (?P<comment> /\* )
  | (?P<quoted> [eE]'(?: [^'\\] | \\. | '' )*'          # with backslashes
                 | '(?: [^'] | '' )*'
                 | "(?: [^"] | "" )*"
                 | \$(?P<tag> (?: [^\W\d]\w* )? )\$ .*? \$(?P=tag)\$ )
  | (?P<word> [^\W\d][\w$]* )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ROUTINE = re.compile(r"create (?:or replace )?(?:function|procedure)\b")


def starts(script: str) -> list[int]:
    """Offset of the first character of each statement in a script that PostgreSQL can parse; empty statements do not
    count.

    A semicolon ends a statement unless it is quoted, in a comment, in parentheses as in CREATE RULE, or in a body
    between BEGIN ATOMIC and END. These are psql's rules.
    """
    offsets: list[int] = []
    words: list[str] = []
    parentheses = blocks = 0
    inside = False
    for place, text, is_word in tokens(script):
        if text == ";" and parentheses <= 0 and blocks == 0:
            inside, parentheses, words = False, 0, []
            continue
        if not inside:
            inside = True
            offsets.append(place)
        parentheses += (text == "(") - (text == ")")
        if is_word:
            words.append(text.lower())
            blocks += _opened(words, blocks)
    return offsets


def _opened(words: list[str], blocks: int) -> int:
    """The change in the number of open blocks that the last of a statement's words makes: 1, 0 or -1."""
    if not _ROUTINE.match(" ".join(words[:4])):
        return 0
    if words[-1] == "begin" or (words[-1] == "case" and blocks):
        return 1
    return -1 if words[-1] == "end" and blocks else 0


def tokens(script: str) -> Iterator[tuple[int, str, bool]]:
    """The tokens of a script that are neither space nor comment: offset, text, and whether it is a bare word."""
    at = 0
    while token := _TOKEN.match(script, at):
        if token["comment"]:
            at = _end_of_comment(script, token.end())
            continue
        if not token["space"]:
            yield at, token[0], token["word"] is not None
        at = token.end()


def _end_of_comment(script: str, at: int) -> int:
    """Offset of the end of a comment whose text begins at `at`; comments may be nested in it."""
    depth = 1
    while depth and (edge := _COMMENT_EDGE.search(script, at)):
        depth += 1 if edge[0] == "/*" else -1
        at = edge.end()
    return at if not depth else len(script)
