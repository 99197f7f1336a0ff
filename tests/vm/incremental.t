#!/usr/bin/python3 -B
"""Incremental backups of real guests: each point restores to exactly what the guest had at its moment, whatever became of bitmaps, checkpoints and disks
since the last one; what has not changed is neither read nor stored; and of checkpoints, exactly one for each job stays.

The moment is known independently: the disks are copied by nbdcopy from the run's own backup job while the run stands still; of a guest that is shut off,
its images are.
"""
import glob
import json
import os
import shutil
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import guest
import capture
import images
import ovb
import tap

KIB, MIB = 1 << 10, 1 << 20
REPO_VM = os.path.join(ovb.REPO, 'web')
host = guest.Host()
vdb, vdc = guest.Disk('vdb', 'qcow2', size=192 * MIB), guest.Disk('vdc', 'raw', size=48 * MIB)
vm = guest.Guest(host, 'web', [guest.Disk('vda', 'raw', system=True), vdb, vdc])
heads = {}              # by job: its checkpoint
foreign = set()         # other tools' checkpoints
history = []            # (name, point, {target: copy of the moment})


# The moment.

def unfinished():
    return [p for p in glob.glob(REPO_VM + '/*.partial')]


def copy_of_job(run, targets, copies):
    """The moment's disks from the run's backup job, by nbdcopy; the run stands still, and the guest goes on."""
    if not guest.wait_until(lambda: unfinished() or not run.running(), 60, 0.001) or not run.running():
        raise guest.Failure('the run has ended, or does not begin to read')
    run.hold()
    try:
        sockets = glob.glob(capture.RUNTIME + '/*/nbd')
        for target in targets:
            copies[target] = os.path.abspath('moment-%d-%s.img' % (len(history), target))
            # Of the large one, nbdcopy leaves out what the job says is a hole.
            everything = ['--no-extents', '--destination-is-zero'] if target != 'vda' else []
            with open(copies[target], 'wb') as f:
                f.truncate(int(guest.command('nbdinfo', '--size', 'nbd+unix:///%s?socket=%s' % (target, sockets[0]))))
            guest.command('nbdcopy', *everything, 'nbd+unix:///%s?socket=%s' % (target, sockets[0]), copies[target])
    finally:
        run.go_on()


def copy_of_images(targets, copies):
    for disk in vm.disks:
        if disk.target in targets:
            copies[disk.target] = os.path.abspath('moment-%d-%s.img' % (len(history), disk.target))
            guest.command('qemu-img', 'convert', '-U', '-f', disk.format, '-O', 'raw', disk.path, copies[disk.target])


# One run, and all that is true of each.

def backup(name, job='job', off=False, without=('vda',), **keys):
    """Returns the manifest and its disks by target."""
    targets = [d.target for d in vm.disks if d.target not in without]
    copies = {}
    keys = dict({'quiesce': 'never' if off else 'required', 'exclude_disks': ['web/' + t for t in without], 'name': job}, **keys)
    name = name + ': '
    if off or keys.get('capture') == 'snapshot':    # the guest is off, or quiet
        copy_of_images(targets, copies)
        run = capture.once('web', **keys)
    else:
        run = capture.once('web', slow=0.1, meanwhile=lambda run: copy_of_job(run, targets, copies), **keys)
    if not tap.is_(run.status, 0, name + 'exit status 0'):
        tap.diag(run.said)
    m = run.manifest
    disks = {d['target']: d for d in m['disks']}
    tap.diag('%s%s' % (name, {t: (d['how'], d['read'] >> 10, d['data'] >> 10) for t, d in disks.items()}))
    for note in m['notes'] + ['%s: %s' % (t, d['why']) for t, d in disks.items() if 'why' in d]:
        tap.diag(note)
    tap.is_(sorted(disks), targets, name + 'all disks')
    if not off and keys.get('capture') != 'snapshot':
        heads[job] = m.get('checkpoint')
        tap.ok(heads[job], name + 'the manifest names the checkpoint')
    tap.is_(sorted(vm.checkpoints()), sorted(foreign | set(heads.values())), name + 'one checkpoint for each job, and those of others')
    if not off:
        tap.is_(bitmaps(), sorted(heads.values()), name + 'and no other bitmap of ours')
    tap.is_(vm.clean(state='shut off' if off else 'running', checkpoints=None) + capture.left(), [], name + 'nothing else is left')
    history.append((name, run.point, copies))
    return m, disks


def how(disks):
    return {t: d['how'] for t, d in disks.items()}


def little(disks, targets, read, stored, name):
    """At most so many bytes of each."""
    for t in targets:
        tap.ok(disks[t]['read'] <= read and disks[t]['data'] <= stored, '%s: %s: little was read and stored' % (name, t)) or \
            tap.diag('read %d, stored %d' % (disks[t]['read'], disks[t]['data']))


def bitmaps():
    """The names of ours in all images, as QEMU has them."""
    if vm.state() == 'shut off':
        found = [json.loads(guest.command('qemu-img', 'info', '--output=json', d.path)) for d in vm.disks if d.format == 'qcow2']
        lists = [i['format-specific']['data'].get('bitmaps', []) for i in found]
    else:
        lists = [n.get('dirty-bitmaps', []) for n in vm.qmp('query-named-block-nodes', flat=True)]
    return sorted({b['name'] for found in lists for b in found if b['name'].startswith('openvirt-backup.')})


# What the guest does.

def mount():
    vm.exec('mkdir -p /mnt/b && mount -o nodiscard /dev/vdb /mnt/b')


def write(path, kib, at=0):
    """Random bytes, durable, without a cut of what is there."""
    vm.exec('dd if=/dev/urandom of=%s bs=1k count=%d seek=%d conv=notrunc,fsync 2>/dev/null' % (path, kib, at))


def quiet():
    vm.exec('sync')


def start():
    vm.start()
    mount()


BITMAP = {'vdb': 'bitmap', 'vdc': 'compared'}
COMPARED = {'vdb': 'compared', 'vdc': 'compared'}
vm.start()
vm.exec('mke2fs -q -t ext4 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 -J size=4 /dev/vdb')
mount()
write('/mnt/b/a', 16 * KIB)
write('/mnt/b/b', 16 * KIB)
write('/dev/vdc', 8 * KIB)
quiet()


# Full, then five incrementals.

m, d = backup('full')
tap.is_((m['kind'], how(d)), ('full', {'vdb': 'full', 'vdc': 'full'}), 'full: it is')
tap.is_([x.get('why') for x in d.values()], [None, None], 'full: there was nothing before, so no reason is told')

write('/mnt/b/a', 512, 4096)
write('/dev/vdc', 256, 40 * KIB)
quiet()
m, d = backup('first')
tap.is_((m['kind'], how(d)), ('incremental', BITMAP), 'first: by bitmap, and by digests where there is none')
little(d, ['vdb'], 4 * MIB, 4 * MIB, 'first')
tap.ok(d['vdc']['data'] <= MIB, 'first: vdc: little was stored')

# While it writes without pause.
vm.exec('mkdir -p /mnt/b/w')
vm.spawn('writer', 'exec writer run /mnt/b/w')
guest.wait_until(lambda: int(vm.exec('writer synced /mnt/b/w')) > 5)
synced = int(vm.exec('writer synced /mnt/b/w'))
m, d = backup('with a writer')
tap.is_((m['consistency'], how(d)), ('quiesced', BITMAP), 'with a writer: quiesced, by bitmap')
image = capture.restored(history[-1][1], 'vdb')
tap.is_(guest.filesystem_faults(image), [], 'with a writer: the file system is clean')
tap.is_(guest.written_files(image, synced, '/w'), [], 'with a writer: all files that were synced before are there')
vm.end('writer')
vm.exec('rm -r /mnt/b/w')

# Discarded: what is a hole in the guest's disk is one in the point.
vm.exec('rm /mnt/b/b && sync && fstrim /mnt/b && sync && blkdiscard -o 0 -l %d /dev/vdc' % (4 * MIB))
host.virsh('checkpoint-create-as', 'web', 'theirs', '--diskspec', 'vda,checkpoint=no', '--diskspec', 'vdb,checkpoint=bitmap', '--diskspec',
           'vdc,checkpoint=no')
foreign.add('theirs')
m, d = backup('after fstrim')
tap.is_(how(d), BITMAP, 'after fstrim: by bitmap')
little(d, ['vdb'], 4 * MIB, 4 * MIB, 'after fstrim')
before, after = ([images.allocated(capture.restored(history[i][1], t)) for t in ('vdb', 'vdc')] for i in (1, -1))
tap.ok(after[0] <= before[0] - 8 * MIB, 'after fstrim: vdb: what was trimmed is a hole') or tap.diag((before, after))
tap.ok(after[1] == before[1] - 4 * MIB, 'after fstrim: vdc: what was trimmed is a hole') or tap.diag((before, after))

# A reboot of the guest itself.
write('/mnt/b/a', 64, 1024)
vm.reboot()
vm.wait_for_agent()
mount()
write('/dev/vdc', 64, 20 * KIB)
m, d = backup('after a reboot')
tap.is_(how(d), BITMAP, 'after a reboot: by bitmap')
little(d, ['vdb'], 4 * MIB, 4 * MIB, 'after a reboot')

# The same bytes again are dirty, but not stored.
vm.exec('dd if=/mnt/b/a of=/run/same bs=1M count=4 2>/dev/null; dd if=/run/same of=/mnt/b/a bs=1M conv=notrunc,fsync 2>/dev/null')
m, d = backup('the same bytes')
tap.is_(how(d), BITMAP, 'the same bytes: by bitmap')
tap.ok(d['vdb']['read'] >= 4 * MIB > 16 * d['vdb']['data'], 'the same bytes: read, and not stored') or tap.diag(d['vdb'])
tap.is_(d['vdc']['data'], 0, 'the same bytes: of vdc nothing was stored')


# Another job on the same guest.

write('/mnt/b/a', 64, 2048)
m, d = backup('another job', job='other')
tap.is_((m['job'], how(d)), ('other', BITMAP), 'another job: it goes on from what there is')
write('/mnt/b/a', 64, 3072)
m, d = backup('the first job again')
tap.is_(how(d), BITMAP, 'the first job again: by its own bitmap')
little(d, ['vdb'], 2 * MIB, 2 * MIB, 'the first job again')
m, d = backup('another job again', job='other')
tap.is_(how(d), BITMAP, 'another job again: by its own bitmap')
little(d, ['vdb'], 2 * MIB, 2 * MIB, 'another job again')
host.virsh('checkpoint-delete', 'web', heads.pop('other'))


# Accidents.

def power_cut():
    """QEMU has no time to say anything."""
    with open('/run/libvirt/qemu/web.pid', encoding='ascii') as f:
        os.kill(int(f.read()), signal.SIGKILL)
    guest.wait_until(lambda: vm.state() == 'shut off')


def compared(name, why, again=False, **keys):
    """All that is allocated is read, and the reason is told; and the next run goes by the bitmap again."""
    m, d = backup(name, **keys)
    tap.is_(how(d), COMPARED, name + ': compared')
    tap.like(' '.join(m['notes']), why, name + ': and the reason is told')
    tap.ok(d['vdb']['data'] <= 2 * MIB, name + ': little was stored') or tap.diag(d)
    if again:
        write('/mnt/b/a', 64, 5000)
        m, d = backup(name + ', and again')
        tap.is_(how(d), BITMAP, name + ', and again: by bitmap')
        little(d, ['vdb'], 2 * MIB, 2 * MIB, name + ', and again')


# QEMU ended well, and so wrote its bitmaps into the image.
vm.kill()
start()
write('/mnt/b/a', 64, 6000)
m, d = backup('after an end')
tap.is_(how(d), BITMAP, 'after an end: by bitmap')
# A bitmap that was not yet in the image is lost; one that was there is in it as inconsistent.
foreign.clear()
host.virsh('checkpoint-delete', 'web', 'theirs')
power_cut()
start()
write('/mnt/b/a', 64, 7000)
compared('a lost bitmap', 'bitmap', again=True)
vm.kill()
start()
power_cut()
start()
write('/mnt/b/a', 64, 8000)
tap.like(guest.command('qemu-img', 'info', '-U', vdb.path), 'in-use', 'an inconsistent bitmap: it is')
compared('an inconsistent bitmap', 'bitmap')
host.virsh('checkpoint-delete', 'web', heads['job'])
write('/mnt/b/a', 64, 9000)
compared('a deleted checkpoint', 'libvirt has lost the checkpoint')
# libvirt's record is gone, but the bitmaps are there.
host.virsh('checkpoint-delete', 'web', heads['job'], '--metadata')
write('/mnt/b/a', 64, 9000)
m, d = backup('a forgotten checkpoint')
tap.is_(how(d), BITMAP, 'a forgotten checkpoint: taken back, so by bitmap')
# An unsound bitmap that nobody knows would keep the disk from ever being resized.
vm.kill()
start()
host.virsh('checkpoint-delete', 'web', heads['job'], '--metadata')
power_cut()
start()
compared('forgotten, and inconsistent', 'libvirt has lost the checkpoint', again=True)

# Through overlays, which have no bitmaps: the one before them tells more than enough.
write('/mnt/b/a', 64, 10000)
vm.exec('umount /mnt/b')
m, d = backup('by snapshot', capture='snapshot', quiesce='never')
tap.is_(how(d), COMPARED, 'by snapshot: compared')
mount()
write('/mnt/b/a', 64, 11000)
m, d = backup('after a snapshot')
tap.is_(how(d), BITMAP, 'after a snapshot: by bitmap')

# A copy of an image with its bitmap, which is put back later on.
quiet()
vm.kill()
shutil.copy(vdb.path, 'between.qcow2')
start()

# Shut off between two.
write('/mnt/b/a', 64, 12000)
quiet()
vm.kill()
m, d = backup('shut off', off=True)
tap.is_(how(d), {'vdb': 'bitmap', 'vdc': 'compared'}, 'shut off: by bitmap')
little(d, ['vdb'], 2 * MIB, 2 * MIB, 'shut off')
m, d = backup('still shut off', off=True)
tap.is_(how(d), {'vdb': 'bitmap', 'vdc': 'unchanged'}, 'still shut off: by bitmap, and not at all')
tap.is_([x['data'] for x in d.values()], [0, 0], 'still shut off: nothing is stored')
# The copy has not what was written before the latest point; its bitmap has the right name, and does not tell that it was.
shutil.copy(vdb.path, 'later.qcow2')
shutil.copy('between.qcow2', vdb.path)
m, d = backup('a copy from before', off=True)
tap.is_(how(d), {'vdb': 'bitmap', 'vdc': 'unchanged'}, 'a copy from before: by bitmap, and where the points differ')
little(d, ['vdb'], 4 * MIB, 2 * MIB, 'a copy from before')
shutil.copy('later.qcow2', vdb.path)
m, d = backup('and the other one again', off=True)
tap.is_(how(d), {'vdb': 'bitmap', 'vdc': 'unchanged'}, 'and the other one again: likewise')
little(d, ['vdb'], 4 * MIB, 2 * MIB, 'and the other one again')
start()
write('/mnt/b/a', 64, 13000)
m, d = backup('started again')
tap.is_(how(d), BITMAP, 'started again: by bitmap')
little(d, ['vdb'], 4 * MIB, 2 * MIB, 'started again')
write('/mnt/b/a', 64, 14000)
quiet()
power_cut()
compared('shut off by a power cut', 'bitmap', off=True)
start()
compared('and started', 'bitmap', again=True)


# Other disks.

host.virsh('blockresize', 'web', vdb.path, '224M')
host.virsh('blockresize', 'web', vdc.path, '56M')
write('/dev/vdb', 64, 222 * KIB)
write('/dev/vdc', 64, 54 * KIB)
m, d = backup('grown')
tap.is_([x['size'] for x in d.values()], [224 * MIB, 56 * MIB], 'grown: the sizes')
tap.is_(how(d), BITMAP, 'grown: by bitmap')
little(d, ['vdb'], 2 * MIB, 2 * MIB, 'grown')

vdd = guest.Disk('vdd', 'qcow2', size=16 * MIB)
vdd.make(vm.folder, None)
vm.disks.append(vdd)
vm.files.add(os.path.basename(vdd.path))
vm.attach(vdd.xml())
vm.exec('until test -b /dev/vdd; do sleep 0.1; done')
write('/dev/vdd', 256)
m, d = backup('a new disk')
tap.is_(how(d), dict(BITMAP, vdd='full'), 'a new disk: full inside the chain, the others not')
tap.is_(d['vdd'].get('why'), 'the latest restore point has no disk vdd', 'a new disk: and the reason is told')
write('/dev/vdd', 64, 1024)
m, d = backup('a new disk again')
tap.is_(how(d), dict(BITMAP, vdd='bitmap'), 'a new disk again: by bitmap')
# Its image is replaced: that one is read, the others are not.
vm.attach(vdd.xml(), 'detach-device')
guest.wait_until(lambda: 'vdd' not in vm.disk_sources())
raw = guest.raw_of(vdd.path, 'qcow2')
os.unlink(vdd.path)
guest.command('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, vdd.path)
os.chmod(vdd.path, 0o666)
vm.attach(vdd.xml())
vm.exec('until test -b /dev/vdd; do sleep 0.1; done')
write('/dev/vdd', 64, 2048)
m, d = backup('a replaced image')
tap.is_(how(d), dict(BITMAP, vdd='compared'), 'a replaced image: that one is compared, the others by bitmap')
tap.like(d['vdd'].get('why', ''), "bitmap .* for disk 'vdd'", 'a replaced image: and the reason is told')
tap.is_([x.get('why') for t, x in d.items() if t != 'vdd'], [None, None], 'a replaced image: of that one')
tap.ok(d['vdd']['data'] <= 128 * KIB, 'a replaced image: little is stored')
vm.attach(vdc.xml(), 'detach-device')
vm.disks.remove(vdc)
write('/mnt/b/a', 64, 15000)
write('/dev/vdd', 64, 4096)
m, d = backup('without a disk')
tap.is_(how(d), {'vdb': 'bitmap', 'vdd': 'bitmap'}, 'without a disk: the others by bitmap')

# Each has the bitmap of the same checkpoint, but it tells of what the other one was.
quiet()
vm.kill()
vdb.path, vdd.path = vdd.path, vdb.path
vm.define()
m, d = backup('exchanged images', off=True)
tap.is_(how(d), {'vdb': 'compared', 'vdd': 'compared'}, 'exchanged images: compared')
tap.like(d['vdb'].get('why', ''), 'then it was .*vdb.qcow2', 'exchanged images: and the reason is told')


# In the end, all of them.

for name, point, copies in history:
    for target, copy in copies.items():
        image = capture.restored(point, target)
        tap.is_(images.first_difference(image, copy), None, name + target + ' restores to what it was at the moment')
tap.is_(ovb.verify(history[-1][1]).status, 0, 'the last one verifies')
tap.done_testing()
