#!/usr/bin/python3 -B
"""Make the seeds of fuzz_state, always the same: what workers say, and journals.    make_state_seeds.py CORPUS (writes CORPUS/state)"""
import json

import seed_files

UUID = '00000000-0000-4000-8000-000000000000'


def event(what, /, **more):
    return json.dumps({'event': what, **more}).encode()


def lines(*of):
    return b'W' + b'\n'.join(of) + b'\n'


def notes(*of, end=b'exit 0 \n'):
    return b'N' + b''.join(b'%d %s\n' % (1793000000 + n, e) for n, e in enumerate(of)) + end


def journal(*overlays, **more):
    return b'J' + json.dumps({'format': 1, 'uri': 'qemu:///system', 'name': 'web', 'uuid': UUID, 'token': '0123abcd', 'frozen': True,
                              'folder': '/run/x', 'overlays': list(overlays), **more}).encode()


BEGIN = event('begin', vm='web', machines=2)
PROGRESS = event('progress', done=5, total=10, rate=3, limit=100, left=1.5)
DONE = event('done', vm='web', point='2026-11-22T013000Z', kind='full', consistency='quiesced', read=5, stored=3, sent=0, freeze_ms=12, seconds=3.25,
             not_quiesced='why')
FAILED = event('failed', vm='db', sent=0, error='cannot read: no')
OVERLAY = {'target': 'vda', 'base': '/srv/vda.img', 'overlay': '/srv/vda.img.ovb', 'format': 'raw', 'block': False, 'committing': True}

SEEDS = {
    'run': lines(BEGIN, PROGRESS, DONE, BEGIN, FAILED),
    'replication': lines(event('replicated', vm='web', point='p', to='offsite', stored=5, sent=5, seconds=1.0),
                         event('replication', to='offsite', sent=1, present=2, bytes=3), event('replication', to='offsite', point='p', error='no'),
                         event('replication', to='x', error='no')),
    'other': lines(event('pruned', points=1, folders=1, freed=10), event('pruned'), event('earlier', machines=2), event('hook', hook='before'),
                   event('room', free=1000), event('unknown')),
    'negative': lines(event('begin', vm='a', machines=-5), event('progress', done=-1, total=-1, rate=-1, limit=-1, left=-1.0),
                      event('done', vm='a', read=-1, stored=-9223372036854775808, freeze_ms=-3, seconds=-5.5)),
    'huge': lines(event('progress', done=2**63 - 1, total=2**63 - 1, left=1e308), event('done', vm='a', stored=2**63 - 1, seconds=1e300),
                  event('replicated', seconds=1.8e19)),
    'odd-types': lines(event('begin', vm=5, machines='x'), event('done', vm=None, seconds='long'), event('progress', left='soon'), b'{"event": 5}', b'[]', b'5',
                       b'{'),
    'long': lines(event('begin', vm='v' * 600), event('failed', vm='w' * 600, error='\u20ac' * 600), event('hook', hook='\u00e4' * 30)),
    'nameless': lines(event('done'), event('failed'), event('replication')),
    'twice': lines(b'{"event": "done", "event": "failed"}'),
    'zero': lines(b'{"event": "done", "vm": "a\\u0000b"}', event('done', vm='a\x1b[2J')),
    'notes': notes(BEGIN, DONE, end=b'exit 1 it failed\n'),
    'notes-unfinished': notes(BEGIN, DONE, end=b'179300'),
    'notes-odd': b'Nexit 9 x\nexit 1\nexit 2 \n-5 {}\n99999999999999999999 {}\nx {}\n5{}\n\n',
    'notes-empty': b'N',
    'journal': journal(OVERLAY, socket='/run/x/nbd', scratch='/srv/s', checkpoint='c', repository='/srv/r'),
    'journal-bare': journal(),
    'journal-of-another': journal(uuid=UUID[:-1] + '1'),
    'journal-token': journal(token='0123'),
    'journal-odd': journal(folder=5),
    'journal-flags': journal({**OVERLAY, 'block': 1}),
    'journal-overlay-cut': journal({'target': 'vda'}),
    'journal-no-list': b'J' + json.dumps({'format': 1, 'uri': 'u', 'name': 'n', 'uuid': UUID, 'token': '0123abcd', 'overlays': {}}).encode(),
    'journal-newer': journal(format=2),
    'journal-cut': journal(OVERLAY)[:-9],
    'journal-empty': b'J',
}


if __name__ == '__main__':
    seed_files.write(seed_files.corpus(), 'state', SEEDS.items())
