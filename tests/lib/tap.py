"""TAP for scenario tests in Python:

    #!/usr/bin/python3 -B
    import os, sys
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
    import tap

    r = tap.run([tap.BIN + '/virt-restore', '--version'])
    tap.is_(r.status, 0, 'prints its version')
    tap.done_testing()

TOP is the source tree, BUILD the build folder ($OVB_BUILD), BIN and TOOLS the programs and instruments in it, WORK a fresh,
empty folder, which is also the current one.  At the end, failure and signals included: what run(), start() and
mount_imagefs() began is ended by process id, what is mounted beneath WORK is unmounted, and WORK is removed.
"""
import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, os.environ.get('OVB_BUILD') or 'build')
BIN = os.path.join(BUILD, 'bin')
TOOLS = os.path.join(BUILD, 'tests', 'tools')
LIB = os.path.join(TOP, 'tests', 'lib')
RUN_TIMEOUT = float(os.environ.get('RUN_TIMEOUT') or 300)
SANITIZE = os.environ.get('OVB_SANITIZE')      # asan, tsan or valgrind (tests/sanitized): what is measured says nothing then
NO_LEAK_CHECK = {'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') + ':detect_leaks=0'}    # for who is traced, or uses a library that leaks
SLOWER = 6 if SANITIZE else 1                  # so many times longer are a test's deadlines then
WRAP = (os.environ.get('OVB_WRAP') or '').split()

_dir = os.path.realpath(tempfile.mkdtemp(prefix='ovb-test.'))
WORK = os.path.join(_dir, 'work')
_count = _failed = 0
_planned = _finished = False
_children = []


# Reports.

def diag(text):
    for line in str(text).splitlines() or ['']:
        print('# ' + line)
    sys.stdout.flush()


def plan(count):
    global _planned
    _planned = True
    print('1..%d' % count, flush=True)


def skip_all(reason):
    """The whole test cannot run here."""
    global _finished
    _finished = True
    print('1..0 # SKIP ' + reason, flush=True)
    sys.exit(0)


def skip(count, reason):
    """So many tests cannot run here."""
    global _count
    for _ in range(count):
        _count += 1
        print('ok %d # SKIP %s' % (_count, reason), flush=True)


def ok(condition, name):
    global _count, _failed
    _count += 1
    _failed += not condition
    print('%s %d - %s' % ('ok' if condition else 'not ok', _count, name.replace('#', '\\#')), flush=True)
    return bool(condition)


def passed(name):
    return ok(True, name)


def failed(name):
    return ok(False, name)


def is_(got, wanted, name):
    """Equal values."""
    if not ok(got == wanted, name):
        diag('got:    %r' % (got,))
        diag('wanted: %r' % (wanted,))
        return False
    return True


def like(got, regex, name):
    if not ok(re.search(regex, got, re.M), name):
        diag('got:    %r' % (got,))
        diag('wanted: /%s/' % regex)
        return False
    return True


def unlike(got, regex, name):
    if not ok(not re.search(regex, got, re.M), name):
        diag('got:      %r' % (got,))
        diag('unwanted: /%s/' % regex)
        return False
    return True


def done_testing():
    """Prints the plan if there was none, and ends the test."""
    global _finished
    _finished = True
    if not _planned:
        print('1..%d' % _count, flush=True)
    if _failed:
        diag('%d of %d failed' % (_failed, _count))
    sys.exit(1 if _failed else 0)


# Programs.

class Result:
    """How a program ended: status as subprocess gives it (-9: killed), or None when its time was up; raw bytes in *_bytes."""

    def __init__(self, status, out, err):
        self.status, self.stdout_bytes, self.stderr_bytes = status, out, err
        self.stdout, self.stderr = (b.decode(errors='replace') for b in (out, err))


def environment(env=None):
    """The test's environment with changes; a variable set to None is taken away."""
    merged = dict(os.environ)
    for name, value in (env or {}).items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = str(value)
    return merged


def start(command, env=None, **kwargs):
    """Start a program in the background, in a session of its own; returns the Popen object."""
    if WRAP and os.path.dirname(command[0]) == BIN:
        command = [*WRAP, *command]
    child = subprocess.Popen(command, env=environment(env), start_new_session=True, **kwargs)
    _children.append(child)
    return child


def stop(child, timeout=10):
    """TERM, and KILL for its whole session when that does not help in time; returns the status."""
    if child in _children:
        _children.remove(child)
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout * SLOWER)
        except subprocess.TimeoutExpired:
            _kill_session(child)
    return child.wait()


def _kill_session(child):
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(command, env=None, input=None, timeout=None, **kwargs):
    """Run a program to its end, or until timeout seconds (RUN_TIMEOUT) have passed."""
    kwargs.setdefault('stdin', subprocess.PIPE if input is not None else subprocess.DEVNULL)
    child = start(command, env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
    if isinstance(input, str):
        input = input.encode()
    try:
        out, err = child.communicate(input, timeout * SLOWER if timeout else RUN_TIMEOUT)
        status = child.returncode
    except subprocess.TimeoutExpired:
        _kill_session(child)
        out, err = child.communicate()
        status = None
    _children.remove(child)
    return Result(status, out, err)


def preload_die(**variables):
    """The environment that runs a program under the crash library: run(cmd, env=preload_die(DIE_AT=3))."""
    env = dict(variables, LD_PRELOAD=os.path.join(TOOLS, 'preload_die.so'))
    # A sanitizer must not insist on being loaded first.
    env['ASAN_OPTIONS'] = 'verify_asan_link_order=0:' + os.environ.get('ASAN_OPTIONS', '')
    return env


def mount_imagefs(*args):
    """mount_imagefs([OPTION...] SOURCE, MOUNTPOINT): returns the Popen object; stop() of it unmounts."""
    mountpoint = os.path.realpath(args[-1])
    child = start([os.path.join(TOOLS, 'imagefs'), '--foreground', *map(str, args)])
    deadline = time.monotonic() + 10
    while mountpoint not in mounts():
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError('imagefs %s did not mount' % ' '.join(map(str, args)))
        time.sleep(0.02)
    return child


# The end.

def mounts():
    """All mount points, the latest last."""
    with open('/proc/self/mountinfo') as f:
        return [re.sub(r'\\([0-7]{3})', lambda m: chr(int(m.group(1), 8)), line.split(' ')[4]) for line in f]


def _cleanup():
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.chdir('/')
    for child in reversed(list(_children)):
        stop(child)
    for mountpoint in reversed([m for m in mounts() if m.startswith(_dir + '/')]):
        if subprocess.run(['umount', mountpoint], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            subprocess.run(['umount', '-l', mountpoint], check=False)
    if not [m for m in mounts() if m.startswith(_dir + '/')]:    # never remove what lies in a foreign file system
        shutil.rmtree(_dir, ignore_errors=True)
    if not _finished:
        diag('the test ended without done_testing')
        sys.stdout.flush()
        os._exit(1)


def _leave(number, _frame):
    sys.exit(128 + number)


os.environ.update(LC_ALL='C', TZ='UTC', OVB_BUILD=BUILD)
atexit.register(_cleanup)
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
    signal.signal(_number, _leave)
os.mkdir(WORK)
os.chdir(WORK)
