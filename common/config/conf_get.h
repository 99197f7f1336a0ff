/*
 * conf_get.h - checked values out of libconfig's tree.
 *
 * Every getter leaves its output as it is when the key is absent, and fails with "FILE:LINE: KEY: what is expected".
 */
#ifndef OVB_CONF_GET_H
#define OVB_CONF_GET_H

#include <libconfig.h>

#include "config/conf.h"
#include "config/conf_text.h"

/**
 * conf_fail(t, s, err, fmt, ...):
 * Set ${err} to the place and path of the setting ${s}, then the formatted text.  A value in an array is placed where the array
 * begins, because libconfig counts the lines of strings there only after it has read the next token.  Returns -1.
 */
int conf_fail(const struct conf_text *t, const config_setting_t *s, struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/** conf_mistyped(t, s, expected, err): conf_fail with what was expected and what ${s} is.  Returns -1. */
int conf_mistyped(const struct conf_text *t, const config_setting_t *s, const char *expected, struct err *err);

/** conf_place(t, group, key): Where ${key} stands in ${group}; line 0 if it is absent. */
struct conf_where conf_place(const struct conf_text *t, const config_setting_t *group, const char *key);

/** conf_known_keys(t, group, known, err): Fails: -1 if ${group} has a key that is not in the NULL-terminated list ${known}. */
int conf_known_keys(const struct conf_text *t, const config_setting_t *group, const char *const *known, struct err *err);

/** conf_get_text(t, s, out, err): Copy the string ${s}, which may not be empty or hold control characters. */
int conf_get_text(const struct conf_text *t, const config_setting_t *s, char **out, struct err *err);

/** conf_get_string(t, group, key, out, err): The same by key. */
int conf_get_string(const struct conf_text *t, const config_setting_t *group, const char *key, char **out, struct err *err);

/** conf_get_strings(t, group, key, out, err): A copy of an array of strings, at least one. */
int conf_get_strings(const struct conf_text *t, const config_setting_t *group, const char *key, struct conf_strings *out,
    struct err *err);

/** conf_get_int(t, group, key, min, max, out, err): A whole number from ${min} to ${max}. */
int conf_get_int(const struct conf_text *t, const config_setting_t *group, const char *key, int min, int max, int *out,
    struct err *err);

/**
 * conf_get_size(t, group, key, min, out, err):
 * A number of bytes, or a string of a whole number and K, M, G, T (powers of 1024, as in systemd's units) or nothing for bytes.
 * It is 0, or at least ${min}, which is a multiple of 1 KiB.
 */
int conf_get_size(const struct conf_text *t, const config_setting_t *group, const char *key, uint64_t min, uint64_t *out,
    struct err *err);

/** conf_get_path(t, group, key, out, err): An absolute path. */
int conf_get_path(const struct conf_text *t, const config_setting_t *group, const char *key, char **out, struct err *err);

/** conf_get_choice(t, group, key, names, out, err): The place of a string in the NULL-terminated list ${names}. */
int conf_get_choice(const struct conf_text *t, const config_setting_t *group, const char *key, const char *const *names, int *out,
    struct err *err);

/** conf_get_bool(t, group, key, out, err): 1 for true, 0 for false. */
int conf_get_bool(const struct conf_text *t, const config_setting_t *group, const char *key, int *out, struct err *err);

/** conf_get_name(t, group, out, err): The key "name", which must be given and be fit for a file name. */
int conf_get_name(const struct conf_text *t, const config_setting_t *group, char **out, struct err *err);

/** conf_strings_free(s): Free what ${s} owns. */
void conf_strings_free(struct conf_strings *s);

#endif
