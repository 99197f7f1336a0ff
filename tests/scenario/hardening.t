#!/usr/bin/python3 -B
"""How the programs are hardened, read from what was linked; each check fails on a program that was built without what it looks for."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import tap

PROGRAMS = [os.path.join(tap.BIN, name) for name in ('virt-backupd', 'virt-backupctl', 'virt-restore')]
GOOD = ['-O2', '-U_FORTIFY_SOURCE', '-D_FORTIFY_SOURCE=2', '-fstack-protector-strong', '-fstack-clash-protection', '-fcf-protection', '-fPIE', '-pie',
        '-Wl,-z,relro,-z,now,-z,noexecstack']
# Something to check for each of them: an array on the stack, a large one, a copy of unknown length.
SMALL = '''#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
	char few[64], many[65536];
	memcpy(few, argv[0], (size_t)argc);
	snprintf(many, (size_t)argc, "%s", few);
	return (puts(many));
}
'''


def out(*command):
    r = tap.run(command)
    if r.status != 0:
        sys.exit('%s: %s' % (' '.join(command), r.stderr))
    return r.stdout


def has_cet(path, code):
    """The linker marks a program only when the C library's own start files are marked; else our functions tell."""
    if re.search(r'IBT, SHSTK', out('readelf', '-nW', out('gcc', '-print-file-name=Scrt1.o').strip())):
        return bool(re.search(r'x86 feature: .*IBT, SHSTK', out('readelf', '-nW', path)))
    return bool(re.search(r'<main>:\n\s*[0-9a-f]+:\s+endbr64', code))


def hardening(path):
    """What the program has: check -> True or False; on other processors than x86-64 without what can only be told there."""
    header, dynamic, segments, symbols = (out('readelf', '-W', option, path) for option in ('-h', '-d', '-l', '--dyn-syms'))
    code = out('objdump', '-d', '--no-show-raw-insn', path)
    stack = re.search(r'GNU_STACK\s+(?:0x\w+\s+){5}(.{3})', segments)
    has = {
        'position independent (PIE)': bool(re.search(r'Type:\s+DYN', header) and re.search(r'FLAGS_1.*\bPIE\b', dynamic)),
        'every symbol bound at start (BIND_NOW)': bool(re.search(r'\(FLAGS\).*BIND_NOW', dynamic) and re.search(r'FLAGS_1.*\bNOW\b', dynamic)),
        'relocations read-only (RELRO)': 'GNU_RELRO' in segments,
        'a stack that is not executable': bool(stack) and 'E' not in stack[1],
        'no path of libraries (RPATH)': not re.search(r'R(UN)?PATH', dynamic),
        'stack protector': '__stack_chk_fail' in symbols,
        'lengths checked by the C library (FORTIFY_SOURCE)': bool(re.search(r'\b__(?!stack)\w+_chk\b', symbols)),
    }
    if 'X86-64' in header:
        has['large frames touched page by page (stack clash)'] = bool(re.search(r'or[bwlq]\s+\$0x0,\(%rsp\)', code))
        has['jumps only to where they may go (CET)'] = has_cet(path, code)
    return has


def small(name, *flags):
    with open('small.c', 'w', encoding='utf-8') as f:
        f.write(SMALL)
    out('gcc', *GOOD, *flags, '-o', name, 'small.c')
    return hardening(name)


# Which the Makefile's goals for sanitizers and coverage take away, or do without.
BY_COMPILER = ('FORTIFY', 'stack protector', 'stack clash', 'CET')

good = small('good')
tap.is_([check for check, has in good.items() if not has], [], 'a small program that is built so has all of it')
FLAGS = ['-no-pie', '-Wl,-z,lazy', '-Wl,-z,norelro', '-Wl,-z,execstack', '-Wl,-rpath,/tmp', '-fno-stack-protector', '-U_FORTIFY_SOURCE',
         '-fno-stack-clash-protection', '-fcf-protection=none']
for check, flag in zip(good, FLAGS):
    tap.is_([other for other, has in small('bad', flag).items() if not has], [check], 'with %s it lacks that: %s' % (flag, check))

for path in PROGRAMS:
    name = os.path.basename(path)
    instrumented = re.search(r'__(asan|tsan|ubsan|gcov)_\w+', out('readelf', '-W', '--syms', path))
    for check, has in hardening(path).items():
        if instrumented and any(word in check for word in BY_COMPILER):
            tap.skip(1, '%s: a build with %s is not what is installed: %s' % (name, instrumented[1], check))
        else:
            tap.ok(has, '%s: %s' % (name, check))

if 'jumps only to where they may go (CET)' in good and not instrumented:
    notes = out('readelf', '-nW', os.path.join(tap.BUILD, 'libcommon.a'))
    members = len(re.findall(r'^File: ', notes, re.M))
    tap.is_(len(re.findall(r'x86 feature: .*IBT, SHSTK', notes)), members, 'every object of libcommon.a is marked for CET')
    tap.ok(members > 50, 'which are many')
tap.done_testing()
