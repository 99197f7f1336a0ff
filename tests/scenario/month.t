#!/usr/bin/python3 -B
"""A month of 200 jobs, by the daemon's engine with a clock of its own: every run starts when systemd-analyze says, through the nights on which clocks
change, in both directions.  And what a daemon with 200 jobs takes while it has nothing to do."""
import calendar
import collections
import os
import re
import shutil
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import daemon
import ovb
import tap

JOBS = 200
# In the hour that is left out, in the one that comes twice, at their ends, across them, and far from them.
EVENTS = ['*-*-* 01:30', '*-*-* 01:59:59', '*-*-* 02:00', '*-*-* 02:15', '*-*-* 02:30', '*-*-* 02:59:59', '*-*-* 03:00', '*-*-* 03:30', '*-*-* 00:00',
          '*-*-* 23:59:59', '*-*-* 02/12:30', 'Sun 02:30', 'Sun *-*-8..14 02:30', '*-*~7/1 02:30', 'Sat,Sun 01..03:45']
ZONES = ['', ' Europe/Berlin', ' America/New_York', ' Australia/Lord_Howe', ' America/Havana', ' Asia/Beirut']
OTHERS = ['hourly', '*:0/30', 'daily', 'weekly', 'monthly', 'Mon..Fri 22:15', '0/3:40', '*-*-* 00/6:05:10 Australia/Lord_Howe', '*-*-* 04:00 UTC',
          '*-*~1 23:59:59 Asia/Kathmandu']
# Of those that come more often than daily, at most so many times in a month: systemd-analyze starts a process for each.
OFTEN = {'hourly': 800, '*:0/30': 1600, '0/3:40': 260, '02/12:30': 70, '01..03:45': 40, 'Australia/Lord_Howe': 140}
# What local time is, from when, until when: with the changes of clocks in spring and in autumn of Europe, America (in their own zones) and Australia.
MONTHS = [('Europe/Berlin', '2026-03-07', '2026-04-07'), ('Europe/Berlin', '2026-10-03', '2026-11-03'),
          ('Australia/Lord_Howe', '2026-10-03', '2026-11-03')]


def utc(text, form='%Y-%m-%d %H:%M:%S'):
    return calendar.timegm(time.strptime(text, form))


def oracle(zone, base, until, event):
    """The times after base up to until; None if systemd gives up on one of them, or has no more."""
    count = OFTEN.get(event.split(' ')[-1 if event in OTHERS else 1], 40)
    r = tap.run(['systemd-analyze', 'calendar', '--iterations=%d' % count, '--base-time=' + time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(base)), '--', event],
                env={'TZ': zone})
    times = [utc(t) for t in (re.findall(r'^ *\(in UTC\): \w+ ([-\d]+ [\d:]+) UTC$', r.stdout, re.M) or
                              re.findall(r'^ *(?:Next elapse|Iter\. #\d+): \w+ ([-\d]+ [\d:]+) UTC$', r.stdout, re.M))]
    if r.status != 0 or not times or (times[-1] <= until and len(times) < count):
        return None
    if times[-1] <= until:
        raise RuntimeError('more times of "%s" are wanted than %d' % (event, count))
    return [t for t in times if t <= until]


def test_month(zone, first, last):
    base, until = utc(first, '%Y-%m-%d'), utc(last, '%Y-%m-%d')
    events = [e + z for e in EVENTS for z in ZONES] + OTHERS
    wanted = {e: oracle(zone, base, until, e) for e in events}
    gave_up = [e for e in events if wanted[e] is None]
    events = [e for e in events if wanted[e] is not None]
    jobs = {'job%03d' % i: events[i % len(events)] for i in range(JOBS)}
    conf = ovb.make_config(*({'name': n, 'images': ['/x'], 'schedule': e} for n, e in jobs.items()), file='month.conf')
    with open(conf, 'a', encoding='utf-8') as f:
        f.write('daemon = { max_parallel = 1000; history = 1; };\n')
    r = tap.run([os.path.join(tap.TOOLS, 'engine_month'), conf, str(base), str(until), '7'], env={'TZ': zone})
    name = '%s, %s to %s' % (zone, first, last)
    started = collections.defaultdict(list)
    for job, when in re.findall(r'^(job\d+) (\d+)$', r.stdout, re.M):
        started[job].append(int(when))
    total = sum(map(len, started.values()))
    tap.ok(r.status == 0 and 'trouble' not in r.stdout and 'cancelled' not in r.stdout, '%s: %d jobs, %d runs' % (name, JOBS, total)) or tap.diag(r.stdout[:500] + r.stderr)
    wrong = [n for n, e in jobs.items() if started[n] != wanted[e]]
    if not tap.is_(wrong, [], '%s: each run starts when systemd-analyze says, none is missing, none too many' % name):
        for n in wrong[:5]:
            tap.diag('%s "%s": too many %s, missing %s' % (n, jobs[n], sorted(set(started[n]) - set(wanted[jobs[n]])), sorted(set(wanted[jobs[n]]) - set(started[n]))))
    wakes = int(re.search(r'^wakes (\d+)$', r.stdout, re.M)[1])
    tap.ok(wakes < 2 * total, '%s: it is woken when there is something to do (%d times)' % (name, wakes))
    tap.ok(len(gave_up) <= len(wanted) / 10, '%s: of %d events, systemd has no answer to %d' % (name, len(wanted), len(gave_up))) or tap.diag(gave_up)


def numbers(pid):
    """(how often it was woken, kilobytes)."""
    with open('/proc/%d/status' % pid, encoding='utf-8') as f:
        text = f.read()
    return int(re.search(r'^voluntary_ctxt_switches:\s*(\d+)', text, re.M)[1]), int(re.search(r'^VmRSS:\s*(\d+)', text, re.M)[1])


def test_idle():
    conf = ovb.make_config(*({'name': 'job%03d' % i, 'images': ['/x'], 'schedule': '%04d-01-01 02:30 Europe/Berlin' % (2100 + i % 50)} for i in range(JOBS)), file='idle.conf')
    d = daemon.Daemon('idle', conf).start()
    # What it does at its start, it has done when it sleeps.
    d.until(lambda: numbers(d.child.pid)[0] == (time.sleep(0.5), numbers(d.child.pid)[0])[1])
    before, _ = numbers(d.child.pid)
    time.sleep(4)
    after, kilobytes = numbers(d.child.pid)
    tap.ok(after - before <= 2, 'an idle daemon with %d jobs sleeps: in 4 seconds it was woken %d times' % (JOBS, after - before))
    if tap.SANITIZE:
        tap.skip(1, 'the memory is also that of ' + tap.SANITIZE)
    else:
        tap.ok(kilobytes < 24 * 1024, 'and takes less than 24 MiB') or tap.diag('%d kB' % kilobytes)
    tap.diag('%d kB' % kilobytes)
    d.stop()


if shutil.which('systemd-analyze') is None or tap.run(['systemd-analyze', 'calendar', 'daily']).status != 0:
    tap.skip(4 * len(MONTHS), 'no systemd-analyze calendar here')
else:
    for month in MONTHS:
        test_month(*month)
test_idle()
tap.done_testing()
