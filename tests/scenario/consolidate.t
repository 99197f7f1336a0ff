#!/usr/bin/python3 -B
"""virt-backupctl consolidate, and a job's full: an incremental point becomes an archive that stock tar restores; the others stay what they are."""
import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import images
import ovb
import tap

CTL = os.path.join(tap.BIN, 'virt-backupctl')
MIB = 1 << 20
IMAGE = 'web.img'
allocated = {}


def job(**keys):
    return ovb.image_job(IMAGE, compression='zstd:1', incremental=True, **keys)


def listed():
    """The points, without what stays of pruned ones."""
    return [p for p in ovb.points() if os.path.exists(p + '/manifest.json')]


def run(conf, *options):
    before = listed()
    r = ovb.once(conf, 'job', *options)
    new = [p for p in listed() if p not in before]
    if r.status != 0 or len(new) != 1:
        raise RuntimeError('no new point: %s' % r.stderr)
    return new[0], r


def ctl(*args):
    return tap.run([CTL, '--repository', os.path.abspath(ovb.REPO), *args])


def change(rng):
    with open(IMAGE, 'r+b') as f:
        for _ in range(5):
            f.seek(rng.randrange(15 * 16) * 65536)
            f.write(rng.randbytes(rng.choice([512, 65536, 200000])))


def stock_tar_restores(point, want, name):
    os.makedirs('untar', exist_ok=True)
    r = tap.run(['tar', '-xf', os.path.join(point, ovb.manifest(point)['archive']['file']), '-C', 'untar', IMAGE])
    tap.ok(r.status == 0 and images.same_content('untar/' + IMAGE, want), name + ': stock tar restores it')
    tap.ok(images.allocated('untar/' + IMAGE) <= allocated[point] + 65536, name + ': as thin') if r.status == 0 else tap.diag(r.stderr)


def all_restore(wants, name):
    wrong = []
    for point, want in wants.items():
        r = ovb.restore(point, 'out.img')
        if r.status != 0 or not images.same_content('out.img', want):
            wrong.append('%s: %s' % (point, r.stderr))
        if os.path.exists('out.img'):
            os.unlink('out.img')
    tap.is_(wrong, [], name)


def keep(point, wants):
    wants[point] = os.path.basename(point) + '.want'
    allocated[point] = images.allocated(IMAGE)      # cp finds more zeroes
    subprocess.run(['cp', '--sparse=always', IMAGE, wants[point]], check=True)


def make_chain(count, rng, **keys):
    """Points of an image that changes, and what each must restore to."""
    conf = ovb.make_config(job(**keys))
    wants = {}
    for _ in range(count):
        change(rng)
        keep(run(conf)[0], wants)
    return conf, wants


def the_verb():
    rng = random.Random(1)
    _, wants = make_chain(5, rng)
    points = sorted(wants)
    tap.is_([ovb.manifest(p)['kind'] for p in points], ['full'] + 4 * ['incremental'], 'a full point and four incremental ones')
    r = ctl('consolidate', ovb.spec(points[2]))
    tap.is_(r.status, 0, 'consolidate') or tap.diag(r.stderr)
    tap.like(r.stdout, r'^web@\S+: now a full archive of .*copied as it stood; .* freed$', 'consolidate says what it did')
    tap.is_(ovb.manifest(points[2])['kind'], 'full', 'the manifest says full')
    stock_tar_restores(points[2], wants[points[2]], 'consolidated')
    all_restore(wants, 'all points restore to what they were')
    r = ctl('consolidate', ovb.spec(points[2]))
    tap.is_(r.status, 0, 'once more') and tap.like(r.stdout, 'is a full archive already', 'it is full already')
    r = ctl('--json', 'consolidate', ovb.spec(points[4]))
    got = json.loads(r.stdout)
    tap.is_([got['event'], got['point'], got['already_full'], got['pending']], ['consolidated', ovb.spec(points[4]), False, False], 'JSON') or tap.diag(r.stdout)
    tap.ok(got['written'] > 0 and got['written'] >= got['copied'], 'JSON: how much was written, and copied as it stood')
    r = ctl("verify")
    tap.is_(r.status, 0, 'verify finds nothing wrong') or tap.diag(r.stderr)
    r = ctl('consolidate', 'web@1999')
    tap.is_(r.status, 1, 'no such point') and tap.like(r.stderr, '1999', 'it is named')


def pruning_gives_the_room_back():
    """Later points go on from the consolidated one: once the earlier ones are pruned, nothing of their archives is left."""
    rng = random.Random(2)
    os.rename(ovb.REPO, 'first')
    conf, wants = make_chain(5, rng)
    tap.is_(ctl('consolidate', 'web@latest').status, 0, 'consolidate')
    for _ in range(2):
        change(rng)
        keep(run(conf)[0], wants)
    points = sorted(wants)
    conf = ovb.make_config(job(keep={'last': 2}), file='keep.conf')
    r = tap.run([CTL, '--config', conf, 'prune', 'job'])
    tap.is_(r.status, 0, 'prune') or tap.diag(r.stderr)
    tap.like(r.stdout, r'job: 5 points gone, 2 kept; .* freed', 'prune says what went') or tap.diag(r.stdout + r.stderr)
    tap.is_(sorted(set(ovb.points()) - set(points[5:])), points[4:5], 'of the pruned points only the consolidated archive is still there')
    all_restore({p: wants[p] for p in points[5:]}, 'the points that are kept restore to what they were')


def the_key():
    rng = random.Random(3)
    os.rename(ovb.REPO, 'second')
    conf, wants = make_chain(3, rng, full='yearly')
    tap.is_([ovb.manifest(p)['kind'] for p in sorted(wants)], ['full', 'incremental', 'incremental'], 'full = yearly: none is due')
    conf = ovb.make_config(job(full='*-*-* *:*:*', keep={'last': 2}))
    time.sleep(1.1)     # it is due a second after the last full point
    change(rng)
    point, r = run(conf)
    keep(point, wants)
    tap.like(r.stdout, r'(?m)^web@\S+: now a full archive of ', 'full = every second: the run says so')
    tap.is_(ovb.manifest(point)['kind'], 'full', 'the new point is full')
    stock_tar_restores(point, wants[point], 'due')
    tap.is_(len(listed()), 2, 'and keep was applied after it')
    all_restore({p: wants[p] for p in listed()}, 'the points that are kept restore to what they were')
    time.sleep(1.1)
    change(rng)
    before = listed()
    r = ovb.once(conf, 'job', '--json')
    new = [p for p in listed() if p not in before]
    events = [json.loads(line) for line in r.stdout.splitlines()]
    tap.is_([e['event'] for e in events if e['event'] not in ('begin', 'progress')], ['done', 'consolidated', 'pruned'], 'JSON: events in order')
    tap.is_([e['point'] for e in events if e['event'] == 'consolidated'], [ovb.spec(p) for p in new], 'JSON: which point')


def keep_takes_the_full_one():
    """There is one at all times, also when none is due."""
    rng = random.Random(4)
    os.rename(ovb.REPO, 'third')
    make_chain(1, rng, full='yearly')
    conf = ovb.make_config(job(full='yearly', keep={'last': 1}))
    change(rng)
    point, r = run(conf)
    tap.like(r.stdout, r'(?m)^pruned 1 point, .*\n(.*\n)*web@\S+: now a full archive of ', 'keep lets go of the last full point: the new one becomes one') or tap.diag(r.stdout)
    tap.is_(([ovb.manifest(p)['kind'] for p in listed()], len(listed())), (['full'], 1), 'so that one is left')


images.make('mixed', IMAGE, seed=7, size=16 * MIB)
the_verb()
pruning_gives_the_room_back()
the_key()
keep_takes_the_full_one()
tap.done_testing()
