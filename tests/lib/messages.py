"""The messages of the programs, as their sources have them.

    for m in messages.every():
        m.where, m.function, m.text, m.literals      "common/repository/lock.c:301", "err_set", the format, its literal parts; m.code the error's, as it is written

A call is read to its closing bracket; a format may be put together from literals, macros (here as <NAME>) and a choice (a ? b : c).
"""
import collections
import glob
import os
import re

import tap

# Functions that take a format or a text: which argument it is.
FUNCTIONS = {'err_set': 2, 'err_plain': 2, 'err_wrap': 1, 'conf_fail': 3, 'fprintf': 1, 'daemon_say': 1, 'wrong_usage': 0, 'hypervisor_failed': 1, 'io_temp_failed': 1, 'bad': 1}
FOLDERS = sorted(os.path.relpath(d, tap.TOP) for top in ('common', 'backupd', 'restore') for d, _, _ in os.walk(os.path.join(tap.TOP, top)))
TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|//[^\n]*|/\*.*?\*/|[()\[\]{},]|[A-Za-z_]\w*|[^\S\n]+|\n|.', re.S)

Message = collections.namedtuple('Message', 'where function text literals code')


def unquoted(literal):
    return literal[1:-1].replace('\\"', '"').replace('\\n', '\n').replace('\\\\', '\\')


def arguments(tokens, at):
    """The arguments of a call whose opening bracket is the token before: lists of tokens."""
    out, depth = [[]], 0
    for token in tokens[at:]:
        if token in '([{':
            depth += 1
        elif token in ')]}':
            if depth == 0:
                return out
            depth -= 1
        if token == ',' and depth == 0:
            out.append([])
        else:
            out[-1].append(token)
    raise ValueError('a call does not end')


def formats(tokens):
    """The texts that an argument can be, its literals joined."""
    out, begun = [], False
    for token in tokens:
        if token[0] == '"':
            out[len(out) - 1 if begun else len(out):] = [(out[-1] if begun else '') + unquoted(token)]
            begun = True
        elif re.fullmatch(r'[A-Z][A-Z0-9_]+', token) and token not in ('NULL', 'PRId64', 'PRIu64'):
            out[len(out) - 1 if begun else len(out):] = [(out[-1] if begun else '') + '<%s>' % token]
            begun = True
        elif token in ('PRId64', 'PRIu64') and begun:
            out[-1] += 'd'
        elif token.strip() and token[:2] != '/*':
            begun = False
    return [text for text in out if not re.fullmatch(r'<\w+>', text)]


def of_file(path):
    with open(path, encoding='utf-8') as f:
        tokens = TOKEN.findall(f.read())
    line, name = 1, os.path.relpath(path, tap.TOP)
    for n, token in enumerate(tokens):
        line += token.count('\n')
        if token not in FUNCTIONS or n + 1 >= len(tokens) or tokens[n + 1] != '(':
            continue
        args = arguments(tokens, n + 2)
        index = FUNCTIONS[token]
        if len(args) <= index or (token == 'fprintf' and ''.join(args[0]).strip() != 'stderr'):
            continue
        for text in formats(args[index]):
            yield Message('%s:%d' % (name, line), token, text, re.findall(r'%|[^%]+', text), ''.join(args[1]).strip() if len(args) > 1 else '')


def every():
    for folder in FOLDERS:
        for path in sorted(glob.glob(os.path.join(tap.TOP, folder, '*.c'))):
            yield from of_file(path)
