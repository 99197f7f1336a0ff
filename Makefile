# Openvirt Backup.  `make` builds the programs into build/bin, `make help` lists the other goals.
# A new .c file in a folder of common/, in backupd/, backupd/api/, backupd/ctl/, backupd/daemon/, backupd/notify/, restore/ or tests/ is found by its place; nothing here needs to name it.

VERSION  := 0.1.0
PREFIX   ?= /usr/local
DESTDIR  ?=
UNITDIR  ?= $(PREFIX)/lib/systemd/system
ZSHDIR   ?= $(PREFIX)/share/zsh/site-functions
CC       ?= gcc
CLANG    ?= clang-14
BUILD    ?= build

comma    := ,
LIBS_COMMON := libarchive liblzma libzstd libconfig jansson libxxhash libcrypto libxml-2.0 libssh2
# Asked for only when something is compiled, so that `make deps` runs on a machine that has none of them.
PKG_CFLAGS   = $(shell pkg-config --cflags $(LIBS_COMMON))
PKG_LIBS     = $(shell pkg-config --libs $(LIBS_COMMON)) -lbz2
# virt-restore is never linked to libvirt: it must work where there is none.
BACKUPD_LIBS = $(shell pkg-config --libs libnbd libvirt) $(API_LIBS) $(DAEMON_LIBS)
API_LIBS     = $(shell pkg-config --libs libmicrohttpd libsystemd)
DAEMON_LIBS  = $(shell pkg-config --libs sqlite3 libsystemd libcurl)
RESTORE_LIBS = $(shell pkg-config --libs libnbd)
CTL_LIBS     = $(shell pkg-config --libs libcurl libnbd)

WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wformat=2 -Wvla
# What compiler and C library know of it (gcc 12 and glibc 2.34 know _FORTIFY_SOURCE=3, other processors than x86 have no -fcf-protection); asked once, when
# something is compiled.  The sanitizers do not know the functions that _FORTIFY_SOURCE calls.
try       = $(if $(shell printf '\043include <features.h>\n' | $(CC) -O2 -Werror $(1) -E -x c - 2>&1 >/dev/null || echo no),,$(1))
FORTIFY   = -U_FORTIFY_SOURCE $(or $(call try,-D_FORTIFY_SOURCE=3),-D_FORTIFY_SOURCE=2)
HARDEN    = $(eval HARDEN := $(if $(SANITIZE),,$(FORTIFY)) -fstack-protector-strong $(call try,-fstack-clash-protection) $(call try,-fcf-protection) -fPIE)$(HARDEN)
CFLAGS   ?= -O2 -g
# Ours come last: a distribution's CPPFLAGS and CFLAGS may hold a lower _FORTIFY_SOURCE.
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DOVB_VERSION='"$(VERSION)"' -Icommon $(WARN) $(CPPFLAGS) $(CFLAGS) $(HARDEN) $(SANITIZE)
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now,-z,noexecstack -pthread $(LDFLAGS) $(SANITIZE)

COMMON   := $(patsubst %.c,$(BUILD)/%.o,$(wildcard common/*/*.c))
BACKUPD  := $(patsubst %.c,$(BUILD)/%.o,$(wildcard backupd/*.c))
API      := $(patsubst %.c,$(BUILD)/%.o,$(wildcard backupd/api/*.c))
NOTIFY   := $(patsubst %.c,$(BUILD)/%.o,$(wildcard backupd/notify/*.c))
DAEMON   := $(patsubst %.c,$(BUILD)/%.o,$(wildcard backupd/daemon/*.c))
# virt-backupctl reads images as virt-backupd does, to compare them with what is stored, and packs archives and replicates as it does.
CTL      := $(patsubst %.c,$(BUILD)/%.o,$(wildcard backupd/ctl/*.c)) \
            $(addprefix $(BUILD)/backupd/,compacting.o replicating.o upkeep_after.o source.o source_image.o source_nbd.o qemu_nbd.o image_lock.o deadline.o)
RESTORE  := $(patsubst %.c,$(BUILD)/%.o,$(wildcard restore/*.c))
UNIT     := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))
# Tests of backupd/ with a stand-in for libvirt, and with deadlines that count shorter seconds.
FAKED    := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fake/test_*.c))
FAKE_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(filter-out tests/fake/test_%,$(wildcard tests/fake/*.c))) $(BUILD)/tests/fake/deadline.o \
            $(filter-out %/main.o %/deadline.o %/source_nbd.o,$(BACKUPD))
FAKE_WRAP := -Wl,--wrap=unlink,--wrap=rmdir,--wrap=mkdir,--wrap=rename,--wrap=renameat2,--wrap=statvfs64
TOOLS    := $(patsubst tests/tools/%.c,$(BUILD)/tests/tools/%,$(filter-out tests/tools/preload_%,$(wildcard tests/tools/*.c)))
PRELOADS := $(patsubst tests/tools/%.c,$(BUILD)/tests/tools/%.so,$(wildcard tests/tools/preload_*.c))
REPLAY   := $(patsubst %.c,$(BUILD)/%.replay,$(wildcard tests/fuzz/fuzz_*.c))
FUZZERS  := $(patsubst %.c,$(BUILD)/%.fuzzer,$(wildcard tests/fuzz/fuzz_*.c))
VM_TESTS := $(sort $(wildcard tests/vm/*.t))
SCENARIOS := $(sort $(wildcard tests/scenario/*.t tests/tools/*.t tests/oracle_selftest/*.t))
PROGRAMS := $(BUILD)/bin/virt-backupd $(BUILD)/bin/virt-backupctl $(BUILD)/bin/virt-restore
COMPLETIONS := virt-backupctl virt-backupd virt-restore
UNITS    := $(notdir $(wildcard packaging/systemd/*))
DOCDIR   ?= $(PREFIX)/share/doc/openvirt-backup
DOCS     := $(wildcard conf/*) common/FORMAT.md backupd/API.md $(wildcard packaging/examples/*)
MANUALS  := $(notdir $(wildcard packaging/man/*.[1-8]))

.PHONY: all help deps deps-build deps-test demo check check-vm test-programs check-asan check-tsan check-valgrind check-wrapped coverage lint fuzz bench bench-memory bench-vm storage-matrix install uninstall deb rpm check-package dist clean
.DELETE_ON_ERROR:
.SECONDARY: $(FAKED:=.o)

all: $(PROGRAMS)

help:
	@sed -n 's/^#: //p' Makefile

#: make                 build the programs into build/bin
#: sudo make deps-build install the Debian packages that building needs
#: sudo make deps       those, and what the tests need
deps-build:
	packaging/install-packages build
deps:
	packaging/install-packages build test

#: sudo make demo       back up and restore a real image, and show what it took (installs what it needs)
demo: deps-build
	$(MAKE) all
	tests/demo $(BUILD)

#: sudo make check      every test that needs no hypervisor (installs what it needs), JOBS=-j2 at a time
JOBS     ?= -j2
check: deps
	$(MAKE) $(JOBS) test-programs
	CMOCKA_MESSAGE_OUTPUT=TAP OVB_BUILD=$(abspath $(BUILD)) prove --failures --comments --timer $(JOBS) $(PROVEFLAGS) --exec '' $(UNIT) $(FAKED) $(REPLAY) $(SCENARIOS)
test-programs: all $(UNIT) $(FAKED) $(TOOLS) $(PRELOADS) $(REPLAY)

#: sudo make check-vm   the tests on real guests under libvirt and QEMU, emulated, JOBS=-j2 at a time (installs what they need; VM_TESTS=tests/vm/NAME.t for one)
check-vm: deps
	packaging/install-packages vm
	$(MAKE) $(JOBS) all $(TOOLS) $(PRELOADS)
	tests/vm/build-guest $(abspath $(BUILD))/vm
	OVB_BUILD=$(abspath $(BUILD)) prove --failures --comments --timer $(JOBS) $(PROVEFLAGS) --exec '' $(VM_TESTS)

#: make check-asan      the same under AddressSanitizer and UndefinedBehaviorSanitizer
#: make check-tsan      the same under ThreadSanitizer
#: make check-valgrind  the unit tests, the fuzz corpora and some scenarios under valgrind
# Without the functions of _FORTIFY_SOURCE (__memcpy_chk ...), through which the sanitizers do not look.  tests/README.md has the rest.
UNDER_ASAN := BUILD=$(BUILD)/asan HARDEN=-fPIE SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=undefined' CFLAGS='-O1 -g -fno-omit-frame-pointer'
UNDER_TSAN := BUILD=$(BUILD)/tsan HARDEN=-fPIE SANITIZE=-fsanitize=thread CFLAGS='-O1 -g'
VALGRIND_SCENARIOS := $(addprefix tests/scenario/,incremental.t reads.t sftp.t targets.t verify.t)
check-asan:
	tests/sanitized asan $(BUILD)/asan $(MAKE) check $(UNDER_ASAN)
check-tsan:
	tests/sanitized tsan $(BUILD)/tsan $(MAKE) check $(UNDER_TSAN)
check-valgrind: deps
	$(MAKE) $(JOBS) test-programs
	tests/sanitized valgrind $(BUILD)/valgrind $(MAKE) check-wrapped
check-wrapped:
	CMOCKA_MESSAGE_OUTPUT=TAP prove --failures --comments --timer $(JOBS) $(PROVEFLAGS) --exec "env LD_PRELOAD=$(abspath $(BUILD)/tests/tools/preload_self.so) $$OVB_WRAP" $(UNIT) $(FAKED) $(REPLAY)
	OVB_BUILD=$(abspath $(BUILD)) prove --failures --comments --timer $(JOBS) $(PROVEFLAGS) --exec '' $(VALGRIND_SCENARIOS)

#: make coverage        make check, counted: which lines of the programs were run, as a table and in build/coverage/
# Counts are added to those of earlier runs until `make clean`.  What is killed, or ends by _exit() or abort(), counts nothing: a line that only such a process runs is shown as not run.
coverage: deps
	$(MAKE) check BUILD=$(BUILD)/counted SANITIZE='--coverage -fprofile-update=atomic' CFLAGS='-O1 -g'; status=$$?; \
	    tests/coverage $(BUILD)/counted $(BUILD)/coverage && exit $$status

#: make lint            compiler warnings as errors at -O1 to -O3, gcc's analyzer, cppcheck, clang-tidy, shellcheck
lint: deps
	tests/lint $(BUILD)

#: make fuzz            run each fuzz target for FUZZ_SECONDS (60)
FUZZ_SECONDS ?= 60
fuzz: deps $(FUZZERS)
	for f in $(FUZZERS); do n=$$(basename $$f .fuzzer); mkdir -p $(BUILD)/corpus/$$n; \
	    $$f -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=512 -timeout=10 $(BUILD)/corpus/$$n tests/fuzz/corpus/$${n#fuzz_} || exit 1; done

#: make bench           ratios against named peers, into build/bench.md (installs them)
bench: deps-build
	packaging/install-packages bench
	$(MAKE) all $(BUILD)/tests/tools/store_copy $(BUILD)/tests/tools/delay_proxy
	tests/bench $(BUILD)

#: make bench-memory    how much memory each step takes with an index as large as that of 1 TiB, into build/memory.md (half an hour or more)
bench-memory: deps
	$(MAKE) all $(BUILD)/tests/tools/scatterfs
	tests/memory-bench $(BUILD)

#: make bench-vm        a running guest against virtnbdbackup, into build/bench-vm.md (installs it)
bench-vm: deps
	packaging/install-packages vm bench
	$(MAKE) all
	OVB_BUILD=$(abspath $(BUILD)) tests/vm/bench

#: make storage-matrix  what a disk takes on each kind of storage, and four guests' disks, into build/storage-matrix.md (an hour or more; SCALE=0.1 is faster)
storage-matrix: deps
	packaging/install-packages vm storage
	$(MAKE) all $(BUILD)/tests/tools/imagefs
	tests/storage-matrix $(BUILD)

#: make install         into $(DESTDIR)$(PREFIX);  make uninstall takes it away again
install: all
	install -D -m 755 $(BUILD)/bin/virt-backupd $(DESTDIR)$(PREFIX)/sbin/virt-backupd
	install -D -m 755 $(BUILD)/bin/virt-backupctl $(DESTDIR)$(PREFIX)/bin/virt-backupctl
	install -D -m 755 $(BUILD)/bin/virt-restore $(DESTDIR)$(PREFIX)/bin/virt-restore
	install -D -m 755 restore/rescue.py $(DESTDIR)$(PREFIX)/share/openvirt-backup/rescue.py
	install -d $(DESTDIR)$(DOCDIR) $(DESTDIR)$(UNITDIR)
	install -m 644 $(DOCS) $(DESTDIR)$(DOCDIR)
	for u in $(UNITS); do \
	    sed 's,@sbindir@,$(PREFIX)/sbin,' packaging/systemd/$$u > $(DESTDIR)$(UNITDIR)/$$u && chmod 644 $(DESTDIR)$(UNITDIR)/$$u || exit 1; done
	install -D -m 644 packaging/sysusers/openvirt-backup.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/openvirt-backup.conf
	install -D -m 644 packaging/tmpfiles/openvirt-backup.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/openvirt-backup.conf
	for m in $(MANUALS); do install -D -m 644 packaging/man/$$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$$m && \
	    sed -i 's,/usr/local/share/openvirt,$(PREFIX)/share/openvirt,' $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$$m || exit 1; done
	for p in $(COMPLETIONS); do \
	    install -D -m 644 packaging/completion/openvirt-backup.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$p || exit 1; done
	install -D -m 644 packaging/completion/_openvirt-backup $(DESTDIR)$(ZSHDIR)/_openvirt-backup
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/sbin/virt-backupd $(DESTDIR)$(PREFIX)/bin/virt-backupctl $(DESTDIR)$(PREFIX)/bin/virt-restore
	rm -f $(DESTDIR)$(PREFIX)/share/openvirt-backup/rescue.py
	[ ! -d $(DESTDIR)$(PREFIX)/share/openvirt-backup ] || rmdir --ignore-fail-on-non-empty $(DESTDIR)$(PREFIX)/share/openvirt-backup
	for d in $(notdir $(DOCS)); do rm -f $(DESTDIR)$(DOCDIR)/$$d || exit 1; done
	[ ! -d $(DESTDIR)$(DOCDIR) ] || rmdir --ignore-fail-on-non-empty $(DESTDIR)$(DOCDIR)
	for u in $(UNITS); do rm -f $(DESTDIR)$(UNITDIR)/$$u || exit 1; done
	rm -f $(DESTDIR)$(PREFIX)/lib/sysusers.d/openvirt-backup.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/openvirt-backup.conf
	for p in $(COMPLETIONS); do rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$p || exit 1; done
	rm -f $(DESTDIR)$(ZSHDIR)/_openvirt-backup
	for m in $(MANUALS); do rm -f $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$$m || exit 1; done

#: make deb             the Debian package, into build/deb;  make rpm: the RPM package, into build/rpm (what they need has to be there)
deb:
	packaging/build-deb $(BUILD)/deb
rpm:
	packaging/build-rpm $(BUILD)/rpm

#: sudo make check-package  the Debian package built, checked by lintian, installed, used, upgraded, removed and purged in a Debian 12; the RPM built
check-package: deps-build
	packaging/install-packages package
	OVB_BUILD=$(abspath $(BUILD)) prove --failures --comments --timer $(PROVEFLAGS) --exec '' tests/package/package.t

#: make dist            a source archive of what is committed
dist:
	mkdir -p $(BUILD) && git archive --prefix=openvirt-backup-$(VERSION)/ HEAD | gzip -n > $(BUILD)/openvirt-backup-$(VERSION).tar.gz

#: make clean           remove build/
clean:
	rm -rf $(BUILD)

$(BUILD)/bin/virt-backupd: $(BACKUPD) $(DAEMON) $(API) $(NOTIFY) $(BUILD)/libcommon.a
$(BUILD)/bin/virt-backupctl: $(CTL) $(BUILD)/libcommon.a
$(BUILD)/bin/virt-restore: $(RESTORE) $(BUILD)/libcommon.a
$(BUILD)/bin/virt-backupd: PROGRAM_LIBS = $(BACKUPD_LIBS)
$(BUILD)/bin/virt-backupctl: PROGRAM_LIBS = $(CTL_LIBS)
$(BUILD)/bin/virt-restore: PROGRAM_LIBS = $(RESTORE_LIBS)
$(PROGRAMS):
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $^ $(PKG_LIBS) $(PROGRAM_LIBS)

$(BUILD)/libcommon.a: $(COMMON)
	rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(PKG_CFLAGS) -pthread -MMD -MP -c -o $@ $<

$(BUILD)/backupd/daemon/%.o: backupd/daemon/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Ibackupd $(PKG_CFLAGS) $(shell pkg-config --cflags sqlite3 libsystemd) -pthread -MMD -MP -c -o $@ $<

# Tests of the daemon's parts, with all that it uses of backupd/.
DAEMON_USES := $(NOTIFY) $(addprefix $(BUILD)/backupd/,state_dir.o deadline.o earlier.o machine.o command.o)
$(BUILD)/tests/unit/test_daemon_%: tests/unit/test_daemon_%.c $(DAEMON) $(API) $(DAEMON_USES) $(BUILD)/libcommon.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Ibackupd -Ibackupd/daemon $(PKG_CFLAGS) $(ALL_LDFLAGS) -MMD -MP -o $@ $< $(DAEMON) $(API) $(DAEMON_USES) $(BUILD)/libcommon.a $(PKG_LIBS) \
	    $(DAEMON_LIBS) $(API_LIBS) -lcmocka
$(BUILD)/tests/unit/%: tests/unit/%.c $(BUILD)/libcommon.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(PKG_CFLAGS) $(ALL_LDFLAGS) -MMD -MP -o $@ $< $(BUILD)/libcommon.a $(PKG_LIBS) -lcmocka

# Memory and disk that run out, at each call in turn.
$(BUILD)/tests/unit/test_faults: override LDFLAGS += $(addprefix -Wl$(comma)--wrap=,malloc calloc realloc strdup strndup pwrite64 fsync mkdirat renameat2)

$(BUILD)/tests/fake/deadline.o: backupd/deadline.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -pthread -include tests/fake/second.h -MMD -MP -c -o $@ $<
$(BUILD)/tests/fake/%.o: tests/fake/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -I. -Ibackupd $(PKG_CFLAGS) -pthread -MMD -MP -c -o $@ $<
$(BUILD)/tests/fake/test_%: $(BUILD)/tests/fake/test_%.o $(FAKE_OBJ) $(BUILD)/libcommon.a
	$(CC) $(ALL_LDFLAGS) $(FAKE_WRAP) -o $@ $^ $(PKG_LIBS) -lcmocka

$(BUILD)/tests/tools/preload_%.so: tests/tools/preload_%.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -D_GNU_SOURCE $(WARN) -O2 -g -fPIC -shared -o $@ $< -ldl
$(BUILD)/tests/tools/%: tests/tools/%.c $(BUILD)/libcommon.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(PKG_CFLAGS) $$(pkg-config --cflags fuse3) $(ALL_LDFLAGS) -o $@ $(filter %.c %.o,$^) $(BUILD)/libcommon.a $(PKG_LIBS) $(TOOL_LIBS) $$(pkg-config --libs fuse3)
# The daemon's engine, without the daemon.
$(BUILD)/tests/tools/engine_month: $(DAEMON) $(API) $(DAEMON_USES)
$(BUILD)/tests/tools/engine_month: TOOL_LIBS = $(DAEMON_LIBS) $(API_LIBS)
# The daemon's interface, with canned answers behind it.
$(BUILD)/tests/tools/api_daemon: $(API) $(BUILD)/backupd/state_dir.o
$(BUILD)/tests/tools/api_daemon: TOOL_LIBS = $(API_LIBS)

FUZZ_INCLUDE := -I. -Ibackupd
$(BUILD)/tests/fuzz/%.o: tests/fuzz/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(FUZZ_INCLUDE) $(PKG_CFLAGS) -pthread -MMD -MP -c -o $@ $<
# A fuzz target with a main that runs it over files: the corpus as a test, without libFuzzer.
$(BUILD)/tests/fuzz/%.replay: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/replay.o $(BUILD)/libcommon.a
	$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(BUILD)/libcommon.a $(FUZZ_LIBS) $(PKG_LIBS)
# All that libFuzzer runs is compiled with its marks, once, into build/fuzz/.  What a sanitizer says is a finding, and ends the run.
FUZZ_SANITIZE := address,undefined,float-cast-overflow
FUZZ_COMMON := $(patsubst %.c,$(BUILD)/fuzz/%.o,$(wildcard common/*/*.c))
FUZZ_OBJ := $(patsubst %.c,$(BUILD)/fuzz/%.o,$(wildcard tests/fuzz/*.c)) $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/fuzz/*.c))
$(BUILD)/fuzz/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CLANG) -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DOVB_VERSION='"$(VERSION)"' -Icommon $(FUZZ_INCLUDE) $(PKG_CFLAGS) -pthread -g -O1 \
	    -fsanitize=fuzzer-no-link,$(FUZZ_SANITIZE) -fno-sanitize-recover=$(FUZZ_SANITIZE) -MMD -MP -c -o $@ $<
$(BUILD)/fuzz/libcommon.a: $(FUZZ_COMMON)
	rm -f $@ && $(AR) rcs $@ $^
$(BUILD)/tests/fuzz/%.fuzzer: $(BUILD)/fuzz/tests/fuzz/%.o $(BUILD)/fuzz/libcommon.a
	@mkdir -p $(@D)
	$(CLANG) -pthread -fsanitize=fuzzer,$(FUZZ_SANITIZE) -o $@ $(filter %.o,$^) $(BUILD)/fuzz/libcommon.a $(FUZZ_LIBS) $(PKG_LIBS)
.SECONDARY: $(FUZZ_OBJ)
# What targets use that is not in common/.
define FUZZ_USES
$(BUILD)/tests/fuzz/fuzz_$(1).replay: $(patsubst %,$(BUILD)/%.o,$(2))
$(BUILD)/tests/fuzz/fuzz_$(1).fuzzer: $(patsubst %,$(BUILD)/fuzz/%.o,$(2))
endef
fuzz_wrap = $(addprefix -Wl$(comma)--wrap=,$(1))
$(eval $(call FUZZ_USES,request,backupd/api/request backupd/api/metrics))
$(eval $(call FUZZ_USES,state,$(addprefix backupd/,journal state_dir daemon/worker_event daemon/run_log daemon/ops_json daemon/run)))
# libnbd, with a server of ours.
$(eval $(call FUZZ_USES,nbd,tests/fuzz/nbd_server backupd/source backupd/source_nbd backupd/deadline \
    $(addprefix restore/,target target_nbd target_file target_device partial)))
# libvirt's calls, the freeze guard, and qemu-img, likewise.
$(eval $(call FUZZ_USES,agent,$(addprefix backupd/,moment freeze hypervisor domain_job checkpoint qemu_nbd deadline)))
$(BUILD)/tests/fuzz/fuzz_agent.replay $(BUILD)/tests/fuzz/fuzz_agent.fuzzer: FUZZ_LIBS = $(shell pkg-config --libs libvirt) \
    $(call fuzz_wrap,tool_run freeze_guard_start fork kill waitpid)
$(BUILD)/tests/fuzz/fuzz_ssh.replay $(BUILD)/tests/fuzz/fuzz_ssh.fuzzer: FUZZ_LIBS = $(call fuzz_wrap,tool_run connect send recv)
# libssh2 itself, with another transport below it.
$(BUILD)/tests/fuzz/fuzz_sftp.replay $(BUILD)/tests/fuzz/fuzz_sftp.fuzzer: FUZZ_LIBS = -l:libssh2.a -lcrypto -lz \
    $(call fuzz_wrap,_libssh2_transport_send _libssh2_transport_read ssh_session_open ssh_target_new)

-include $(COMMON:.o=.d) $(BACKUPD:.o=.d) $(API:.o=.d) $(DAEMON:.o=.d) $(NOTIFY:.o=.d) $(CTL:.o=.d) $(RESTORE:.o=.d) $(UNIT:=.d) $(FAKED:=.d) $(FAKE_OBJ:.o=.d) \
    $(FUZZ_COMMON:.o=.d) $(FUZZ_OBJ:.o=.d)
