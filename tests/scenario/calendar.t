#!/usr/bin/python3 -B
"""Schedules: what systemd-analyze calendar accepts, how it writes it in full, and when it comes, for thousands of calendar events.

systemd 252 misses some times: "*-*-1,12/8" has no 1st of the month after a 28th, because a repetition that runs over the end is carried into the
next month and hour; some changes of clocks it takes for the end of the day, or gives up.  Where the two answers differ, ours must be what a third,
naive reckoning gives from the text in full, and such cases must be few.

EVENTS is how many random ones are compared in each round; SEED makes other ones.
"""
import calendar
import datetime
import itertools
import os
import random
import re
import shutil
import sys
import time
import zoneinfo

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import tap

EVENTS = int(os.environ.get('EVENTS') or 150)
COUNT = 5
GAVE_UP = 'gave up'
judged = given_up = compared = 0
RNG = random.Random(int(os.environ.get('SEED') or 6))

HAND = '''
minutely|hourly|daily|weekly|monthly|quarterly|semiannually|semi-annually|biannually|bi-annually|yearly|annually|anually|DAILY
weekly Pacific/Auckland|daily UTC|daily utc|hourly Etc/UTC|monthly Europe/Berlin|daily europe/berlin|daily No/Where|daily ../UTC|daily /UTC
Sat,Thu,Mon..Wed,Sat..Sun|Mon,Sun 12-*-* 2,1:23|Wed *-1|Wed..Wed,Wed *-1|Wed, 17:48|Wed..Sat,Tue 12-10-15 1:2:3|*-*-7 0:0:0|10-15
monday *-12-* 17:00|Mon,Fri *-*-3,1,2 *:30:45|12,14,13,12:20,10,30|12..14:10,20,30|mon,fri *-1/2-1,3 *:30:45|03-05 08:05:40|08:05:40|05:40
Sat,Sun 12-05 08:05:40|Sat,Sun 08:05:40|2003-03-05 05:40|05:40:23|2003-02..04-05|2003-03-05 05:40 UTC|2003-03-05|03-05|Mon *-05~07/1
*:2/3|*-*~1|*-02~03|*-02~1..3|*-2-29|*-2-30|2028-02-29|Mon *-02-29|Fri *-*-13|Mon *-*~7/1|*-*~28/1|*-*~28/27|*-*~29|*-*~1/1|*-*~0|*-*~01..5/2
Fri..Mon|Mon..Tue..Wed|Mon-Wed|Mon-Wed..Thu|Mon,|Mon,,Tue|,Mon|Mon..|Mon. Tue|Mondays|Mon..Sun|Mon Tue|sun|SUN,mon|Tues|Mon-05-06
0..0:00|5..5:00|5..5/2:00|1..3/5:00|1..3/2:00|3..1:00|1/0:00|1/23:00|0/23:00|0/24:00|23/1:00|22/1:00|1,1,1:00|*:0/1|*:*:0/1|*:*:0/1,5|*:*:*
*-*-*/2|*/5:00|*:*:*/5|1..3,2..4:0|*:*:59|*:*:60|24:00|23:60|*-0-1|*-13-1|*-1-0|*-1-32|1969-1-1|1970-1-1|2199-12-31 23:59:59|2200-1-1|70-1-1
69-1-1|00-1-1|99-1-1|100-1-1|2000..2010/3-1-1|2020/4-2-29|2026..2030-1/3-~1|2026-~1|*~1|*~1 5:00|1~2~3|1-2~3|1~2-3|1-2-3-4|1:2:3:4|1-|1:|-1|:1
@0|@1700000000|@4000000000|@7258118399|@7258118400|@99999999999999999999|Mon @1700000000|@1700000000 UTC|@1700000000 5:00|@
Mon  1:0|Mon 1:0 |Mon |daily |2003-03-05 |05:40 |Mon UTC|Mon  UTC|UTC|x|1|1,2|1 2|*|* *|*-*|*:*|*-*-* *:*:*|99999999999:00|000000000000000012:00
1,:0|,1:0|1..:0|..1:0|1...2:0|1/:0|1/2/3:0|1..2..3:0|1..20/3..4:0|*,1:0|1,*:0|*1:0|1*:0|2026-03-29 02:30|*-3,10-* 2:0/7|*-*-* 2..3:30|*:30
*-12-24..26,31 23:59|Mon..Fri *-*-1..7 22:00|Sun *-*~7/1 03:15|*-*-1/5 0/6:00|*-*-31|*-*~05..09/4 1:00|Thu *-2-29 12:34:56|*-*-* 00:30|0:0..59/7
'''

# Where clocks change at night, at midnight, by half an hour, by a day, downwards in summer; and where they do not.
ZONES = ['UTC', 'Europe/Berlin', 'America/New_York', 'Australia/Lord_Howe', 'America/Havana', 'Asia/Beirut', 'Africa/Casablanca', 'Europe/Dublin',
         'Pacific/Apia', 'America/Sao_Paulo', 'Asia/Kolkata', 'America/St_Johns', 'Africa/Cairo', 'America/Nuuk']
SUFFIXES = ['', '', '', '', '', '', ' UTC', ' Europe/Berlin', ' America/New_York', ' Asia/Kathmandu', ' Australia/Lord_Howe']
DAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun', 'monday', 'Sunday']


# Random events.

def item(low, high):
    form = RNG.random()
    a, b = sorted((RNG.randint(low, high), RNG.randint(low, high)))
    width = RNG.choice(['%d', '%02d'])
    if form < 0.5:
        return width % RNG.randint(low, high)
    if form < 0.75 and a < b:     # systemd takes 5..5 for hours, but not for seconds
        return width % a + '..' + width % b + ('/%d' % RNG.randint(1, max(1, b - a)) if RNG.random() < 0.4 else '')
    return width % a + '/%d' % RNG.randint(1, max(1, (high - low) // 2))


def items(low, high, star=0.4):
    if RNG.random() < star:
        return '*'
    return ','.join(item(low, high) for _ in range(RNG.choice([1, 1, 1, 2, 3])))


def weekdays():
    def one():
        a = RNG.randrange(7)
        return DAYS[a] if RNG.random() < 0.6 else DAYS[a] + RNG.choice(['..', '..', '-']) + DAYS[RNG.randrange(a, 7)]
    return ','.join(one() for _ in range(RNG.choice([1, 1, 2, 3]))) + ' '


def date():
    day = RNG.choice(['-', '-', '~'])
    day += items(1, 31) if day == '-' else items(1, RNG.choice([7, 22]), 0.1)
    year = items(2024, 2032, 0.8) + '-' if RNG.random() < 0.7 else ''
    return year + items(1, 12, 0.6) + day


def time_of_day():
    return items(0, 23) + ':' + items(0, 59, 0.2) + (':' + items(0, 59, 0.2) if RNG.random() < 0.5 else '')


def event():
    parts = [weekdays() if RNG.random() < 0.35 else '', date() if RNG.random() < 0.6 else '', time_of_day() if RNG.random() < 0.8 else '']
    text = parts[0] + ' '.join(p for p in parts[1:] if p) or 'daily'
    return text.rstrip() + RNG.choice(SUFFIXES)


def garbled():
    text = list(event())
    for _ in range(RNG.choice([1, 1, 2, 4])):
        at = RNG.randrange(len(text) + 1)
        char = RNG.choice('0123456789*,./-~: @') if RNG.random() < 0.8 else RNG.choice('MonTueUTC')
        text[at:at + RNG.randrange(2)] = [] if RNG.random() < 0.3 else [char]
    return ''.join(text)


def comparable(text):
    """Not one of the differences that calendar.h names; nor what strtoul(3) adds behind an @; nor empty."""
    return text and not re.search(r'(?<![.\d])\d+\.\d|\.\.\d+\.\d|/\d+\.\d|@\s*[^\d\s]|@\s|\b0*(\d+)\.\.0*\1\b', text)


# The two answers: for each event its text in full and its times, or None.

def ours(zone, base, events):
    r = tap.run([tap.TOOLS + '/calendar_next', str(base), str(COUNT)], env={'TZ': zone}, input=''.join(e + '\n' for e in events))
    answers = []
    for line in r.stdout.split('\n')[:-1]:
        text, _, times = line.partition('\t')
        answers.append(None if text.startswith('error: ') else (text, [int(t) for t in times.split()]))
    if r.status != 0 or r.stderr or len(answers) != len(events):
        raise RuntimeError('calendar_next: status %s, %d answers to %d events: %s' % (r.status, len(answers), len(events), r.stderr))
    return answers


def utc(text):
    return calendar.timegm(time.strptime(text, '%Y-%m-%d %H:%M:%S'))


def systemd(zone, base, events):
    """One call for all; what fails is named on standard error and leaves no block.  It has no answer to some good events, and says so."""
    r = tap.run(['systemd-analyze', 'calendar', '--iterations=%d' % COUNT, '--base-time=' + time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(base)), '--', *events],
                env={'TZ': zone})
    failed = re.findall(r"^Failed to (parse calendar specification|determine next elapse for) '(.*)': ", r.stderr, re.M)
    blocks = re.split(r'^(?=Normalized form:)', r.stdout, flags=re.M)[1:]
    answers = []
    for e in events:
        if failed and failed[0][1] == e:
            answers.append(GAVE_UP if failed.pop(0)[0].startswith('determine') else None)
            continue
        if not blocks:
            raise RuntimeError('systemd-analyze said nothing of "%s": %s' % (e, r.stderr[:300]))
        block = blocks.pop(0)
        times = re.findall(r'^ *\(in UTC\): \w+ ([-\d]+ [\d:]+) UTC$', block, re.M) if '(in UTC)' in block else \
            re.findall(r'^ *(?:Next elapse|Iter\. #\d+): \w+ ([-\d]+ [\d:]+) UTC$', block, re.M)
        answers.append((re.match(r'Normalized form: (.*)', block).group(1), [utc(t) for t in times]))
    if failed or blocks:
        raise RuntimeError('systemd-analyze: %d failures and %d answers too many: %s' % (len(failed), len(blocks), r.stderr[:300]))
    return answers


# The judge.

def values(text, low, high, from_end=False):
    """The set of numbers that a list stands for."""
    found = set()
    for part in text.split(','):
        m = re.fullmatch(r'(\d+)(?:\.\.(\d+))?(?:/(\d+))?', part)
        if part == '*':
            found.update(range(low, high + 1))
        elif m.group(2) or m.group(3):
            start, step = int(m.group(1)), int(m.group(3) or 1)
            found.update(range(start, low - 1, -step) if from_end and not m.group(2) else range(start, int(m.group(2) or high) + 1, step))
        else:
            found.add(int(part))
    return found


def naive(zone, base, text):
    """The next times by looking at every day and every second of it that counts; None if that takes too long."""
    m = re.fullmatch(r'(?:([A-Z][A-Za-z.,]*) )?([^ ~-]+)-([^ ~-]+)([-~])([^ ]+) ([^ :]+):([^ :]+):([^ :]+)(?: ([A-Z].*))?', text)
    tz = zoneinfo.ZoneInfo(m.group(9) or zone)
    days = set()
    for part in (m.group(1) or 'Mon..Sun').split(','):
        first, _, last = part.partition('..')
        days.update(range(DAYS.index(first), DAYS.index(last or first) + 1))
    years, months, dates = values(m.group(2), 1970, 2199), values(m.group(3), 1, 12), values(m.group(5), 1, 31, m.group(4) == '~')
    clock = [sorted(values(m.group(6 + i), 0, high)) for i, high in enumerate((23, 59, 59))]
    wall_now = datetime.datetime.fromtimestamp(base, tz).replace(tzinfo=None)
    day, found, now = wall_now.date(), [], base
    for _ in range(5000):
        last = calendar.monthrange(day.year, day.month)[1]
        if day.year in years and day.month in months and day.weekday() in days and (last + 1 - day.day if m.group(4) == '~' else day.day) in dates:
            for h, mi, s in itertools.product(*clock):
                wall = datetime.datetime(day.year, day.month, day.day, h, mi, s)
                if wall <= wall_now:
                    continue
                moments = [int(wall.replace(tzinfo=tz, fold=fold).timestamp()) for fold in (0, 1)]
                moments = [t for t in moments if t > now and datetime.datetime.fromtimestamp(t, tz).replace(tzinfo=None) == wall]
                if moments:
                    now, wall_now = min(moments), wall
                    found.append(now)
                if len(found) == COUNT:
                    return found
        day += datetime.timedelta(1)
    return None


def compare(zone, base, events):
    """Shows the first few that differ; returns how many did."""
    bad = 0
    global judged, given_up, compared
    compared += len(events)
    for e, got, want in zip(events, ours(zone, base, events), systemd(zone, base, events)):
        if got != want and got and want and (want == GAVE_UP or got[0] == want[0]) and got[1] == naive(zone, base, got[0]):
            judged += want != GAVE_UP
            given_up += want == GAVE_UP
        elif got != want:
            bad += 1
            if bad <= 5:
                tap.diag('TZ=%s base %d "%s"' % (zone, base, e))
                tap.diag('got:    %s' % (got,))
                tap.diag('wanted: %s' % (want,))
    return bad


def changes(zone):
    """When the clocks of a zone change in some of the years 2008 to 2036."""
    code = 'import time\nlast = None\nfor t in range(1200000000, 2100000000, 1800):\n' \
           '    o = time.localtime(t).tm_gmtoff\n    if last is not None and o != last: print(t)\n    last = o\n'
    return [int(t) for t in tap.run([sys.executable, '-c', code], env={'TZ': zone}).stdout.split()]


if shutil.which('systemd-analyze') is None or tap.run(['systemd-analyze', 'calendar', 'daily']).status != 0:
    tap.skip_all('no systemd-analyze calendar here')

hand = [e for e in HAND.strip('\n').replace('\n', '|').split('|') if e]
for ZONE in ('UTC', 'Europe/Berlin'):
    tap.is_(compare(ZONE, utc('2026-03-27 00:00:00'), hand), 0, '%d events by hand, %s' % (len(hand), ZONE))
for ZONE in ZONES:
    events = [event() for _ in range(EVENTS)]
    tap.is_(compare(ZONE, RNG.randrange(1700000000, 2100000000), events), 0, '%d random events, %s' % (EVENTS, ZONE))
    wrong, n, at = 0, 0, changes(ZONE)
    for change in RNG.sample(at, min(len(at), 6)):
        # Often enough that the change is among the next times; from before it, from after it, from well before.
        events = [time_of_day() + RNG.choice(SUFFIXES[:7]) for _ in range(EVENTS // 5)]
        n += len(events)
        wrong += compare(ZONE, change + RNG.choice([-4 * 86400, -7200, -3000, -600, 600, 3000]), events)
    tap.is_(wrong, 0, '%d random events around %d changes of clocks, %s' % (n, min(len(at), 6), ZONE))
events = [e for e in (garbled() for _ in range(12 * EVENTS)) if comparable(e)]
tap.is_(compare('Europe/Berlin', 1780000000, events), 0, '%d garbled events' % len(events))
tap.diag('of %d, systemd-analyze had no answer to %d ("Resource deadlock avoided"), and another one to %d' % (compared, given_up, judged))
tap.ok(judged + given_up < compared / 50, 'in nearly all, systemd-analyze and the definition are one')

# What differs on purpose.
for TEXT in ('1:2:3.5', '1:2:3.000', '5:00 CET', '5:00 cest', 'daily CET', '@5 Europe/Berlin', ','.join(['1'] * 61) + ':00', '', 'x' * 1001):
    tap.is_(ours('Europe/Berlin', 0, [TEXT]), [None], 'refused: "%.20s"' % TEXT)
tap.is_(ours('UTC', 1780000000, ['daily CET'])[0][0], '*-*-* 00:00:00 CET', 'a zone of that name elsewhere is none')
tap.done_testing()
