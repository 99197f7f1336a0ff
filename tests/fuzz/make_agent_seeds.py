#!/usr/bin/python3 -B
"""Make the seeds of fuzz_agent, always the same: agents' answers, libvirt's XML, qemu-img's JSON.    make_agent_seeds.py CORPUS (writes CORPUS/agent)"""
import json

import seed_files


def systems(*of):
    return b'F' + b''.join(b'\0'.join([m, n, t, bytes([len(d) | 48])] + list(d)) + b'\0' for m, n, t, d in of)


def error(code, text):
    return b'E' + bytes([code]) + text


def checkpoint(how, *disks):
    return b'C' + bytes([how]) + b"<domaincheckpoint><name>openvirt-backup.nightly.0123abcd</name><creationTime>1</creationTime><disks>" + b''.join(
        b"<disk name='%s' checkpoint='%s'/>" % d for d in disks) + b'</disks></domaincheckpoint>'


def image(*chain):
    return b'I' + json.dumps(list(chain)).encode()


def bitmaps(*of):
    return {'filename': '/srv/vda.qcow2', 'format': 'qcow2', 'format-specific': {'type': 'qcow2', 'data': {'bitmaps': [
        {'name': n, 'flags': list(f), 'granularity': 65536} for n, f in of]}}}


ROOT = (b'/', b'vda1', b'ext4', (b'vda',))
SEEDS = {
    'fs-one': systems(ROOT),
    'fs-many': systems(ROOT, (b'/srv', b'dm-0', b'xfs', (b'vdb', b'vdc')), (b'C:\\', b'\\\\?\\Volume{1}\\', b'NTFS', ())),
    'fs-latin1': systems((b'/b\xfccher', b'sd\xe4', b'ext4', (b'v\xffa',))),
    'fs-control': systems((b'/a\nb\x1b[31m', b'', b'', (b'',))),
    'fs-none': b'F\0',
    'fs-cut': systems(ROOT)[:-5],
    'error-agent': error(1, b'Guest agent is not responding: QEMU guest agent is not connected'),
    'error-control': error(128, b'internal error: \x1b[2Jfsfreeze\nfailed\r\x07'),
    'error-latin1': error(0, b'kann nicht: Ger\xe4t belegt'),
    'error-empty': error(2, b''),
    'error-long': error(129, b'unable to execute QEMU agent command: ' + '\u00e4\u20ac\U0001f600'.encode() * 120),
    'error-cut-character': error(1, b'x' * 477 + '\u20ac'.encode() * 40),
    'error-c1': error(1, b'a\xc2\x9b31mb'),
    'error-limit': error(64, b'no timeout'),
    'checkpoint': checkpoint(0, (b'vda', b'bitmap'), (b'vdb', b'no'), (b'vdc', b'bitmap')),
    'checkpoint-some-gone': checkpoint(8, (b'vda', b'bitmap'), (b'vdb', b'bitmap'), (b'vdc', b'bitmap')),
    'checkpoint-stays': checkpoint(3, (b'vda', b'bitmap')),
    'checkpoint-off': checkpoint(4, (b'vda', b'bitmap')),
    'checkpoint-undeletable': checkpoint(2, (b'vda', b'bitmap'), (b'vdb', b'bitmap')),
    'checkpoint-odd-name': checkpoint(0, (b'a&quot;&lt;&amp;&#39;&#10;&#9;', b'bitmap'), (b'', b'bitmap')),
    'checkpoint-no-disks': checkpoint(0),
    'checkpoint-entity': b'C\0<!DOCTYPE x [<!ENTITY a "b">]><domaincheckpoint><disks><disk name="&a;" checkpoint="bitmap"/></disks></domaincheckpoint>',
    'checkpoint-cut': checkpoint(0, (b'vda', b'bitmap'))[:-20],
    'job': b"J<domainbackup mode='pull'><server transport='unix' socket='/run/x/0123abcd/nbd'/></domainbackup>",
    'job-other': b"J<domainbackup mode='push'/>",
    'job-none': b'J',
    'image': image({'filename': '/srv/vda.qcow2', 'format': 'qcow2'}),
    'image-chain': image({'filename': 'a', 'backing-filename': 'b', 'backing-filename-format': 'raw'}, {'filename': 'b', 'format': 'raw'}),
    'image-would-be-probed': image({'filename': 'a', 'backing-filename': 'b', 'backing-filename-format': 'qcow2'},
                                   {'filename': 'b', 'backing-filename': 'c'}),
    'image-nameless': image({'backing-filename': 'c'}),
    'image-format-null': image({'filename': 'a', 'backing-filename': 'b', 'backing-filename-format': None}),
    'image-bitmap': image(bitmaps(('a', ['auto']), ('b', ['auto']))),
    'image-bitmap-in-use': image(bitmaps(('b', ['auto', 'in-use']))),
    'image-bitmap-flags': image(bitmaps(('b', [1, None, 'auto']))),
    'image-not-a-list': b'I{"filename": "a", "backing-filename": "b"}',
    'image-empty-list': b'I[]',
    'image-cut': b'I[{"filename": "a", "backing-',
    'image-nothing': b'I\0',
}


if __name__ == '__main__':
    seed_files.write(seed_files.corpus(), 'agent', SEEDS.items())
