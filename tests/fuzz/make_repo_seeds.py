#!/usr/bin/python3 -B
"""Make the seeds of fuzz_repo, always the same: a repository's small files.    make_repo_seeds.py CORPUS (writes CORPUS/repo)"""
import hashlib
import json

import seed_files

ID, OTHER = '9f3c2a10-5b7e-4c1d-8e2f-0123456789ab', '9f3c2a10-5b7e-4c1d-8e2f-0123456789ac'
FILES = {'manifest.json': b'{}\n', 'index.bin': b'', 'disks.tar': b'disk'}


def repository(**more):
    return b'R' + json.dumps({'format': 1, 'id': ID, 'created': '2026-11-22T01:30:00Z', 'program': 'x', **more}).encode()


def replicas(*points, **more):
    return b'L' + json.dumps({'format': 1, 'source': ID, 'points': list(points), **more}).encode()


def point(machine='web', **more):
    return {'machine': machine, 'point': '2026-11-22T013000Z', 'here': '2026-11-22T013000Z', 'archive': ID, **more}


def lock(**more):
    return b'K' + json.dumps({'token': '0123456789abcdef', 'host': 'h', 'pid': 1, 'boot_id': 'b', 'pid_namespace': 'pid:[1]', 'start_time': 5,
                              'program': 'virt-backupd', **more}).encode()


def mark(**more):
    return b'M' + json.dumps({'job': 'pull', 'from': ID, 'received': '2026-11-22T01:30:00Z', **more}).encode()


def sums(files=None, extra=b''):
    return b'S' + b''.join(b'%s  %s\n' % (hashlib.sha256(d).hexdigest().encode(), n.encode()) for n, d in (files or FILES).items()) + extra


SEEDS = {
    'repository': repository(),
    'repository-newer': repository(format=2),
    'repository-no-format': repository(format='1'),
    'repository-id-leads-out': repository(id='../repository'),
    'repository-id-absolute': repository(id='/etc/passwd'),
    'repository-id-empty': repository(id=''),
    'repository-id-long': repository(id=ID + 'x' * 300),
    'repository-id-capitals': repository(id=ID.upper()),
    'repository-cut': repository()[:-20],
    'repository-twice': b'R{"format": 1, "id": "%s", "id": "x"}' % ID.encode(),
    'repository-empty': b'R',
    'list': replicas(point(), point(point='2026-11-23T013000Z', here='2026-11-23T013000Z-2', archive=OTHER, replaces=[ID, 'x', 5])),
    'list-pruned-there': replicas({'machine': 'web', 'point': '2026-11-22T013000Z'}),
    'list-here-only': replicas({'machine': 'web', 'here': '2026-11-22T013000Z', 'archive': ID}),
    'list-no-archive': replicas({'machine': 'web', 'here': '2026-11-22T013000Z'}),
    'list-leads-out': replicas(point('..'), point(here='../../x'), point(point='a/b'), point('a/b'), point('')),
    'list-odd': replicas(5, None, [], {}, point(5), point(archive='no'), point(replaces='no')),
    'list-long': replicas(point('x' * 300), point(here='y' * 300)),
    'list-many': replicas(*[point(here='%d' % i) for i in range(70)]),
    'list-newer': replicas(point(), format=2),
    'list-no-points': b'L{"format": 1, "points": {"a": 1}}',
    'mark': mark(),
    'mark-long': mark(job='j' * 200, **{'from': 'f' * 200}),
    'mark-odd': mark(job=5),
    'mark-too-large': mark(job='j' * 5000),
    'lock': lock(),
    'lock-odd': lock(pid='1', start_time=-1, token=5),
    'lock-pid': lock(pid=-1, boot_id=''),
    'lock-large': lock(pid=2**62, host='h' * 400, program='p' * 300),
    'lock-escape': lock(program='\x1b[2J\n'),
    'lock-empty': b'K',
    'lock-cut': lock()[:-30],
    'sums': sums(),
    'sums-wrong': sums({**FILES, 'disks.tar': b'other'}),
    'sums-missing': sums({'manifest.json': b'{}\n'}),
    'sums-leads-out': sums(FILES, b'%s  ../../repository.json\n%s  ..\n%s  .\n' % ((b'0' * 64,) * 3)),
    'sums-odd-lines': sums(FILES, b'\n%s *disks.tar\n%s x\nshort\n%s  \n\0\n' % ((b'0' * 64,) * 3)),
    'sums-empty': b'S',
}


if __name__ == '__main__':
    seed_files.write(seed_files.corpus(), 'repo', SEEDS.items())
