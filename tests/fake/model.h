/*
 * model.h - guests, and the libvirtd that has them, as far as backupd/ can tell; and a script of what goes wrong.
 *
 * All of it is in one shared file, which the environment names ($OVB_FAKE): the test, the run that it forks, the freeze guard and qemu-img, which
 * are started from this same program, see one world.
 *
 * Calling sequence of a test:  model_new -> (set fields of ${fake}) -> on, failing ... -> (run something) -> look at ${fake} -> model_free
 */
#ifndef OVB_FAKE_MODEL_H
#define OVB_FAKE_MODEL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MODEL_VARIABLE	"OVB_FAKE"
#define MODEL_PATH	512
#define MODEL_DISKS	2
#define MODEL_STEPS	160
#define MODEL_STEP	96
#define MODEL_RULES	24
#define MODEL_CHECKPOINTS	16
#define MODEL_WINDOWS	4		/* of 64 KiB, in what a backup job exports of each disk */

/* Who calls: each has its own count of calls, and its steps are listed under its name. */
enum who { WHO_RUN, WHO_GUARD, WHO_SETTLE, WHO_TOOL, WHO_N, WHO_ANY = WHO_N };

/* Where a disk is, in the guest that runs or in the persistent XML. */
enum place { ON_NOTHING, ON_BASE, ON_OVERLAY };

enum block_job { JOB_NONE, JOB_COMMIT, JOB_SOMEBODYS_COPY };

struct model_disk {
	char		 target[16], type[8], format[8];
	char		 base[MODEL_PATH], overlay[MODEL_PATH];
	enum place	 live, config;
	enum block_job	 job;
	bool		 ready;
	unsigned int	 polls;			/* of the job, since it began */
	unsigned int	 base_age, overlay_age;	/* grow with what the guest writes: the greater one is newer */
};

/* Of a checkpoint, in a disk's image. */
enum bitmap { NO_BITMAP, SOUND, UNSOUND };

struct model_checkpoint {
	char		 name[160];		/* empty: there is none */
	unsigned int	 number;		/* of those that were made */
	bool		 known;			/* libvirt has a record of it ... */
	bool		 recorded[MODEL_DISKS];	/* ... which names these disks */
	enum bitmap	 bitmaps[MODEL_DISKS];
};

enum agent { AGENT_THERE, AGENT_GONE, AGENT_HANGS };

/* What happens at a call, or instead of it. */
enum event {
	FAILS,			/* with code and text; after a call, though it has had its effect */
	KILLED,			/* the caller, with SIGKILL */
	HANGS,			/* for ${arg} ms */
	GUEST_OFF,
	GUEST_STARTED,
	GUEST_RESTARTED,
	GUEST_WRITES,
	GUEST_GONE,		/* migrated away, or undefined and off */
	LIBVIRTD_AWAY,		/* for ${arg} ms: all connections are dead; after a call, its answer is lost */
	AGENT_LEAVES,		/* for ${arg} ms; 0: for good */
	AGENT_STUCK,		/* the same: it takes requests, and does not answer */
	THAWED,			/* by somebody else */
	FROZEN,			/* the agent does it late */
	BACKUP_JOB_ENDS,
	BACKUP_JOB_OF_SOMEBODY,	/* in place of ours */
	COMMIT_FAILS,		/* the block job of disk 0 is gone by itself */
	COPY_OF_SOMEBODY,	/* a block job on disk 0 */
	DETACHED,		/* disk 0, from the running guest and its persistent XML */
	SCRATCH_GROWS,		/* by ${arg} bytes */
	ANSWERED_LATE,		/* libvirt goes on with the call for ${arg} ms; until then nothing shows what it does */
	DISK_FULL,		/* for files that the caller writes from now on */
};

struct rule {
	char		 step[24];
	enum who	 who;
	unsigned int	 from, to;	/* calls, counted from 1 */
	bool		 after;
	enum event	 event;
	long		 arg;
	int		 code;
	char		 text[128];
};

struct model {
	pthread_mutex_t	 lock;		/* guards it all */

	/* The guest. */
	char		 name[64], uuid[37];
	bool		 exists, active, paused, persistent;
	bool		 has_agent;
	enum agent	 agent;
	int64_t		 agent_back;	/* deadline_now() of that; 0: never */
	int		 agent_timeout;	/* seconds, or less than 0 */
	int		 frozen;	/* file systems */
	struct model_disk disks[MODEL_DISKS];
	int		 ndisks;
	bool		 config_lags;	/* libvirtd does not write a pivot into the persistent XML */

	/* Its backup job. */
	bool		 backup_job;
	char		 backup_xml[4096];

	char		 content[MODEL_WINDOWS];	/* what each window is full of; 0: 'x' */
	bool		 dirty[MODEL_WINDOWS];	/* what the bitmap tells of, whichever checkpoint it is asked for */

	/* Its checkpoints. */
	struct model_checkpoint checkpoints[MODEL_CHECKPOINTS];
	unsigned int	 ncheckpoints;	/* made so far */
	unsigned int	 late_failures;	/* so many jobs are not begun, though their checkpoint is made */

	/* What libvirt is in the middle of, when its caller has gone. */
	int64_t		 call_ends;	/* deadline_now() of that */
	int		 call;		/* its virDomainJobOperation */

	/* libvirtd. */
	int64_t		 back;		/* deadline_now() of its return */
	unsigned int	 generation;	/* of connections */
	bool		 no_backup_api;
	unsigned int	 ready_after;	/* looks at a commit until it is ready */
	unsigned int	 refused_pivots;	/* so many are */

	/* The host. */
	int		 second_ms;	/* what a second of backupd/deadline.h is */
	uint64_t	 free_bytes;	/* of the scratch folder's file system; 0: as it is */
	char		 scratch[MODEL_PATH];
	bool		 publications;	/* are steps, too */

	/* What goes wrong. */
	struct rule	 rules[MODEL_RULES];
	unsigned int	 nrules;
	unsigned int	 kill_at;	/* the run, or who settles, before it takes this step; 0: never */

	/* What was seen. */
	char		 steps[MODEL_STEPS][MODEL_STEP];	/* each changes something; '!' behind it: it failed */
	unsigned int	 nsteps, run_steps;
	char		 wrong[256];	/* the first thing done that must never be done */
	struct {
		char		 step[24];
		unsigned int	 n;
	}		 counts[WHO_N][40];

	/* What a run said. */
	int		 rc;
	char		 error[1024], unsettled[1024], why[512], capture[16], consistency[24], reports[2048];
	int64_t		 freeze_ms;
	int		 leaked_fds;
};

extern struct model *fake;
extern enum who fake_who;

/** model_new(path): A shut-off world with one running guest, "web", of one raw disk whose image is ${path}/vda.img. */
void model_new(const char *folder);
void model_attach(void);
void model_free(void);

/** model_disk(target, type): One more disk, raw, whose image is made. */
struct model_disk *model_disk(const char *folder, const char *name, const char *target, const char *type);

/** on(step, nth, event, arg): Before the ${nth} such call of the run, that happens; on_after(): after it. */
void on(const char *step, unsigned int nth, enum event event, long arg);
void on_after(const char *step, unsigned int nth, enum event event, long arg);

/** fail(who, step, from, to, code, text): Those calls fail. */
void failing(enum who who, const char *step, unsigned int from, unsigned int to, int code, const char *text);

/** The last rule made is for the calls of ${who}. */
void by(enum who who);

/** step_begin(key, detail): A call arrives: what the script has for it happens.  Returns the rule by which it fails, or NULL. */
const struct rule *step_begin(const char *key, const char *detail, bool changes);

/** step_end(key, detail, changes, failed): It is done: listed, when it changes something.  Returns whether the answer is lost. */
bool step_end(const char *key, const char *detail, bool changes, bool failed);

/** wrong(fmt, ...): Something was done that must never be. */
void wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void model_lock(void);
void model_unlock(void);

/* With the lock held. */
void model_event(enum event e, long arg);
void model_clock(void);		/* who was to come back by now is back */
bool model_in_call(void);	/* libvirt is in the middle of a call that takes a moment */
void model_commit(struct model_disk *d);
struct model_disk *model_find(const char *target);
struct model_checkpoint *model_checkpoint(const char *name);	/* or NULL */
struct model_checkpoint *model_checkpoint_new(const char *name);	/* the one of that name, or else an empty one that gets it */
void model_checkpoint_end(struct model_checkpoint *c);		/* it is gone, if nothing of it is left */

#endif
