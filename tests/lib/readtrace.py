#!/usr/bin/python3
"""Which bytes of a file a program, and all that it starts, read: strace, with file offsets worked out.

    trace = readtrace.run(['cp', 'vda.img', 'copy'])        runner=tap.run for its time limit and its clean-up
    vda = trace.of('vda.img')
    vda.opened      how often the file was opened (0: the trace says nothing about it)
    vda.reads       [(offset, length returned)] in the order they ended: read, pread, preadv, sendfile, copy_file_range ...
    vda.mmaps       [(offset, length)] of mappings that can be read
    vda.unreadable  [(offset, length)] of PROT_NONE mappings, which can not (mincore wants one)
    trace.io_uring  how many io_uring calls there were: what those read is not seen, so ask for 0
    readtrace.reads_only_extents(vda.reads, images.extents('vda.img')) is None

    readtrace.py FILE COMMAND...    the same for sh: lines 'read OFFSET LENGTH', 'mmap ...', 'mmap-none ...', 'opened COUNT' and
                                    'io_uring COUNT' after the command's own output; its exit status

A descriptor that was inherited or received, not opened under the trace, is taken to stand at offset 0, and write() is not
followed: pread() and programs that open what they read are traced exactly.
"""
import bisect
import collections
import os
import re
import subprocess
import sys
import tempfile

CALLS = ('read readv pread64 preadv preadv2 mmap mprotect openat openat2 ?open lseek close dup ?dup2 dup3 fcntl clone clone3 '
         '?fork ?vfork io_uring_setup io_uring_enter copy_file_range sendfile splice').split()
FileReads = collections.namedtuple('FileReads', 'opened reads mmaps unreadable')


class Process:
    """What threads share: open descriptions by descriptor (each a list with one offset), and mappings that cannot be read."""

    def __init__(self, parent=None):
        self.fds = dict(parent.fds) if parent else {}
        self.unreadable = list(parent.unreadable) if parent else []


class Trace:
    def __init__(self, lines, status=0, result=None):
        self.status, self.result = status, result
        self.io_uring = 0
        self._files = {}            # path: FileReads, opened as a list of one
        self._processes = {}
        self._unfinished = {}       # pid: the first half of a line
        self._early = set()         # children seen before their parent's call had returned
        for line in lines:
            self._line(line)

    def of(self, path):
        f = self._files.get(os.path.realpath(path))
        return FileReads(f.opened[0], f.reads, f.mmaps, f.unreadable) if f else FileReads(0, [], [], [])

    def _file(self, path):
        return self._files.setdefault(path, FileReads([0], [], [], []))

    # Lines into calls.

    def _line(self, line):
        pid, text = re.match(r'(\d+) +(.*)', line).groups()
        if text.startswith(('+++', '---')):
            return
        resumed = re.match(r'<\.\.\. \w+ resumed>(.*)', text)
        if resumed:
            text = self._unfinished.pop(pid) + resumed.group(1)
        elif text.endswith('<unfinished ...>'):
            self._process(pid)
            self._unfinished[pid] = text[:-len('<unfinished ...>')]
            return
        call = re.match(r'(\w+)\((.*)\)\s+= (\S+)', text)
        if not call:
            raise ValueError('strace line not understood: ' + line)
        name, args, returned = call.groups()
        if returned == '?' or returned.startswith('-'):
            return
        value = int(re.match(r'0x[0-9a-f]+|\d+', returned).group(), 0)
        getattr(self, '_on_' + name)(self._process(pid), split(args), value, returned, pid)

    def _process(self, pid):
        if pid not in self._processes:
            parent, flags = None, ''
            for other, text in self._unfinished.items():
                if re.match(r'clone|fork|vfork', text):
                    parent, flags = self._processes[other], text
                    self._early.add(pid)
            self._processes[pid] = parent if parent and 'CLONE_FILES' in flags else Process(parent)
        return self._processes[pid]

    def _child(self, process, args, value, *_):
        if str(value) in self._early:
            self._early.remove(str(value))
        else:
            self._processes[str(value)] = process if 'CLONE_FILES' in ','.join(args) else Process(process)

    _on_clone = _on_clone3 = _on_fork = _on_vfork = _child

    # Descriptors.

    def _opened(self, process, _args, value, returned, _pid):
        process.fds[value] = [0]
        self._file(path_of(returned)).opened[0] += 1

    _on_openat = _on_openat2 = _on_open = _opened

    def _on_close(self, process, args, *_):
        process.fds.pop(fd_of(args[0]), None)

    def _duplicated(self, process, args, value, *_):
        process.fds[value] = description(process, args[0])

    _on_dup = _on_dup2 = _on_dup3 = _duplicated

    def _on_fcntl(self, process, args, value, *_):
        if args[1].startswith('F_DUPFD'):
            self._duplicated(process, args, value)

    def _on_lseek(self, process, args, value, *_):
        description(process, args[0])[0] = value

    # Reads.

    def _read(self, process, args, value, *_):
        at = description(process, args[0])
        self._add(args[0], at[0], value)
        at[0] += value

    _on_read = _on_readv = _read

    def _on_pread64(self, process, args, value, *_):
        if args[3] == '-1':         # preadv2: where the description stands
            self._read(process, args, value)
        else:
            self._add(args[0], int(args[3]), value)

    _on_preadv = _on_preadv2 = _on_pread64

    def _moved(self, process, fd, offset, value):
        if offset == 'NULL':
            self._read(process, [fd], value)
        else:
            self._add(fd, int(re.search(r'\d+', offset).group()), value)

    def _on_copy_file_range(self, process, args, value, *_):
        self._moved(process, args[0], args[1], value)

    _on_splice = _on_copy_file_range

    def _on_sendfile(self, process, args, value, *_):
        self._moved(process, args[1], args[2], value)

    def _uring(self, *_):
        self.io_uring += 1

    _on_io_uring_setup = _on_io_uring_enter = _uring

    def _add(self, fd, offset, length):
        if length > 0:
            self._file(path_of(fd)).reads.append((offset, length))

    # Mappings.

    def _on_mmap(self, process, args, address, *_):
        length, protection, fd, offset = int(args[1]), args[2], args[4], int(args[5], 0)
        process.unreadable = [m for m in process.unreadable if m[0] + m[1] <= address or m[0] >= address + length]
        if '<' not in fd:
            return
        f = self._file(path_of(fd))
        if protection == 'PROT_NONE':
            process.unreadable.append((address, length, offset, path_of(fd)))
            f.unreadable.append((offset, length))
        else:
            f.mmaps.append((offset, length))

    def _on_mprotect(self, process, args, *_):
        start, end = int(args[0], 16), int(args[0], 16) + int(args[1])
        if args[2] == 'PROT_NONE':
            return
        for address, length, offset, path in process.unreadable:
            low, high = max(start, address), min(end, address + length)
            if low < high:
                self._file(path).mmaps.append((offset + low - address, high - low))


# Arguments as strace -y prints them.

def split(args):
    """The arguments of a call, cut at the commas outside brackets, strings and <paths>."""
    return [a.strip() for a in re.findall(r'(?:"(?:[^"\\]|\\.)*"|<(?:[^>\\]|\\.)*>|\[[^]]*\]|\{.*\}|[^,"<\[{])+', args)]


def fd_of(arg):
    return int(re.match(r'-?\d+', arg).group())


def path_of(arg):
    path = re.search(r'<(.*)>', arg)
    return path.group(1).encode().decode('unicode_escape').encode('latin1').decode(errors='replace') if path else ''


def description(process, arg):
    return process.fds.setdefault(fd_of(arg), [0])


def reads_only_extents(reads, extents):
    """The first byte read, in the order of the reads, that lies in no extent; None when there is none."""
    extents = sorted(extents)
    starts = [start for start, _ in extents]
    for offset, length in reads:
        end = offset + length
        while offset < end:
            i = bisect.bisect_right(starts, offset) - 1
            if i < 0 or offset >= extents[i][0] + extents[i][1]:
                return offset
            offset = extents[i][0] + extents[i][1]
    return None


def plain_runner(command, **kwargs):
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)


def run(command, runner=plain_runner, **kwargs):
    """Run the command to its end under strace; the runner's own result is in .result."""
    with tempfile.TemporaryDirectory(prefix='ovb-trace.') as folder:
        log = os.path.join(folder, 'log')
        options = ['-f', '-qq', '-y', '-s', '0', '-e', 'signal=none', '-e', 'trace=' + ','.join(CALLS)]
        # -I2: a signal to strace ends it and the command.
        result = runner(['strace', '-I2', *options, '-o', log, '--', *command], **kwargs)
        status = result.status if hasattr(result, 'status') else result.returncode
        with open(log, errors='replace') as f:
            return Trace(f, status, result)


def main():
    if len(sys.argv) < 3:
        print('usage: readtrace.py FILE COMMAND...', file=sys.stderr)
        return 2
    trace = run(sys.argv[2:], runner=lambda command: subprocess.run(command, check=False))
    f = trace.of(sys.argv[1])
    for name, ranges in ('read', f.reads), ('mmap', f.mmaps), ('mmap-none', f.unreadable):
        for offset, length in ranges:
            print(name, offset, length)
    print('opened', f.opened)
    print('io_uring', trace.io_uring)
    return trace.status if trace.status >= 0 else 128 - trace.status


if __name__ == '__main__':
    sys.exit(main())
