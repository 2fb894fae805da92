/* Marks of code, shells and logs that words do not show: marks.py. */
#pragma once
#include "text.h"

static void see(Found *found, int mark)
{
    if (found->seen_marks >> mark & 1)
        return;
    found->seen_marks |= (uint64_t)1 << mark;
    found->marks[found->order++] = (uint8_t)mark;
}

/* Whether *fixed* stands behind a letter, in the first few places. */
static bool behind_letter(Found *found, const char *fixed, size_t size)
{
    const char *end = found->text + found->bytes, *at = found->text;
    for (int look = 0; look < LOOKS; look++) {
        at = memmem(at, (size_t)(end - at), fixed, size);
        if (!at)
            return false;
        int before = (int)(at - found->text) - 1;
        if (kind_at(found, before) & ALPHA)
            return true;
        found->beyond |= !is_ascii_at(found, before); /* a letter? */
        at++;
    }
    return false;
}

static bool has_path(Found *found)
{
    const char *end = found->text + found->bytes, *at = found->text;
    for (int look = 0; look < LOOKS; look++) {
        at = memchr(at, '/', (size_t)(end - at));
        if (!at)
            return false;
        int place = (int)(at - found->text);
        if (place == 0 || kind_at(found, place - 1) & BEFORE_PATH) {
            if (kind_at(found, place + 1) & ALNUM)
                return true;
            found->beyond |= !is_ascii_at(found, place + 1); /* a letter? */
        }
        at++;
    }
    return false;
}

static int quoted(const Scan *self, Found *found)
{
    const char *end = found->text + found->bytes;
    const char *at = memmem(found->text, (size_t)found->bytes, "```", 3);
    if (!at)
        return BACKTICK;
    for (at += 3; at < end && (*at == ' ' || *at == '\t'); at++)
        ;
    const char *start = at;
    char language[sizeof *self->prose] = {0};
    for (; at < end && (KINDS[(unsigned char)*at] & ALNUM || (*at && strchr("_+#-", *at))); at++)
        if (at - start < (Py_ssize_t)sizeof language - 1)
            language[at - start] = (char)(KINDS[(unsigned char)*at] & UPPER ? *at | 32 : *at);
    size_t size = (size_t)(at - start);
    found->beyond |= at < end && *at & 0x80; /* a letter? */
    for (int i = 0; i < self->prose_count; i++)
        if (strlen(self->prose[i]) == size && !strcmp(self->prose[i], language))
            return FENCED_PROSE;
    return size ? FENCE_OF_CODE : FENCE;
}

/* What the text's shape shows: letters, digits and signs beside each other. */
static void find_marks(const Scan *self, Found *found, const bool *has)
{
    const char *text = found->text;
    const char *end = text + found->bytes;
    bool shapes[OTHER_MARKS] = {false}, capitals = false;
    if (has['('])
        for (const char *at = text; !shapes[CALL] && (at = memchr(at, '(', (size_t)(end - at)));
             at++) {
            int i = (int)(at - text);
            shapes[CALL] = kind_at(found, i - 1) & ALNUM && kind_at(found, i - 2) & ALNUM;
        }
    if (has['['])
        for (const char *at = text;
             !shapes[SUBSCRIPT] && (at = memchr(at, '[', (size_t)(end - at))); at++)
            shapes[SUBSCRIPT] = at > text && (kind_at(found, (int)(at - text) - 1) & ALNUM ||
                                              at[-1] == '_' || at[-1] == ')');
    if (has['_'])
        for (const char *at = text;
             !shapes[SNAKE_CASE] && (at = memchr(at, '_', (size_t)(end - at))); at++) {
            int i = (int)(at - text);
            shapes[SNAKE_CASE] = kind_at(found, i - 1) & ALNUM && kind_at(found, i - 2) & ALNUM &&
                                 kind_at(found, i + 1) & ALNUM && kind_at(found, i + 2) & ALNUM;
        }
    if (has['-'])
        for (const char *at = text; !shapes[OPTION] && (at = memchr(at, '-', (size_t)(end - at)));
             at++) {
            int i = (int)(at - text);
            shapes[OPTION] =
                i && at[-1] == ' ' &&
                (kind_at(found, i + 1) & ALPHA ||
                 (i + 1 < found->bytes && at[1] == '-' && kind_at(found, i + 2) & LOWER));
        }
    if (found->humps)
        for (int i = 1; i < found->bytes; i++) {
            if (!(kind_at(found, i) & UPPER))
                continue;
            int before = kind_at(found, i - 1), behind = kind_at(found, i + 1);
            capitals |= before & UPPER && behind & UPPER;
            shapes[CAMEL_CASE] |= before & LOWER && behind & LOWER;
        }
    shapes[ERROR_TYPE] =
        (has['E'] && (behind_letter(found, "Error", 5) || behind_letter(found, "Exception", 9)));
    shapes[PATH] = has['/'] && has_path(found);

    for (int i = 0; i < self->fixed_count; i++) {
        const Fixed *fixed = &self->fixed[i];
        if (fixed->of_capitals ? capitals
                               : has[(int)fixed->sign] && (!fixed->of_lines || has['\n']))
            if (memmem(text, (size_t)found->bytes, fixed->text, (size_t)fixed->size))
                see(found, fixed->mark);
    }
    if (has['`'])
        see(found, self->other_marks[quoted(self, found)]);
    for (int i = CALL; i < ASKS; i++)
        if (shapes[i])
            see(found, self->other_marks[i]);
}
