/* A text of a call: its characters, its lower case, its tokens, and what is found in it. */
#pragma once
#include <string.h>
#include "table.h"

static uint8_t KINDS[256];

static void know_characters(void)
{
    for (int c = 33; c < 127; c++) {
        bool lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z',
             digit = c >= '0' && c <= '9';
        KINDS[c] = (uint8_t)(lower ? LOWER : upper ? UPPER : digit ? DIGIT : 0);
        if (lower || upper || digit || strchr("_$#@+.", c))
            KINDS[c] |= IN_WORD;
        if (!(lower || upper || digit || c == '_'))
            KINDS[c] |= PUNCTUATION;
    }
    for (const char *c = " \n\t~.\"'=(`:>"; *c; c++)
        KINDS[(int)*c] |= BEFORE_PATH;
}

/* FNV-1a, a byte at a time. */
#define HASH_BASIS 2166136261u
static inline uint32_t hashed(uint32_t hash, char c)
{
    return (hash ^ (unsigned char)c) * 16777619u;
}
static inline uint32_t spread(uint32_t hash)
{
    return hash ^ hash >> 15;
}
static inline uint32_t hash_of_pair(uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(key >> 32);
}

/* What a name is: a Latin word or punctuation, a stem or pair of characters, a run in others. */
enum { LATIN = 1, PIECE = 2, OTHER = 4 };

typedef struct {
    uint32_t hash;
    int32_t word; /* its place in the table, -1 for none */
    uint16_t start, size;
    uint8_t is;
    bool used; /* by a phrase */
} Name;

typedef struct {
    int32_t rank, weight;
    PyObject *name;
} Told;

typedef struct {
    const char *text;   /* as written, bytes long */
    int bytes, lowered; /* `lower` has so many */
    int mask, names, counted, tokens, phrases, known, told, order, stems, stemmed, parts;
    int flags;         /* of all the words in Latin */
    int classes;       /* names that are words of the lexicon, in `classed` */
    bool begin_used;   /* by a phrase */
    bool ascii, humps; /* humps: a capital behind a letter */
    bool beyond;       /* this text is left to the others */
    int64_t sum;       /* of the weights of what is known, in hundredths */
    uint64_t seen_marks;
    Told heaviest[MOST_TOLD];
    uint8_t marks[MOST_MARKS];        /* in the order in which they count */
    char lower[2 * MOST_BYTES];       /* the text in lower case, and stems of Latin words */
    uint16_t token_names[MOST_BYTES]; /* what the tokens are, by number */
    uint16_t phrase[MOST_BYTES];      /* places of pairs */
    uint32_t stem[MOST_NAMES], part[MOST_NAMES]; /* places of words */
    uint16_t classed[MOST_NAMES];
    uint16_t slots[MOST_SLOTS];
    Name name[MOST_NAMES];
} Found;

static uint32_t hash_of(const char *text, int size)
{
    uint32_t hash = HASH_BASIS;
    for (int i = 0; i < size; i++)
        hash = hashed(hash, text[i]);
    return hash;
}

/* Return the size of the character at *text*, valid UTF-8, and its code point. */
static inline int decoded(const char *text, uint32_t *point)
{
    const unsigned char *c = (const unsigned char *)text;
    if (c[0] < 0x80)
        return *point = c[0], 1;
    if (c[0] < 0xe0)
        return *point = (uint32_t)(c[0] & 31) << 6 | (c[1] & 63), 2;
    if (c[0] < 0xf0)
        return *point = (uint32_t)(c[0] & 15) << 12 | (uint32_t)(c[1] & 63) << 6 | (c[2] & 63), 3;
    *point = (uint32_t)(c[0] & 7) << 18 | (uint32_t)(c[1] & 63) << 12 | (uint32_t)(c[2] & 63) << 6 |
             (c[3] & 63);
    return 4;
}

/* What a character of lowered text is: in a Latin word (LOWER), in a run of others (UPPER), or 0;
 * tokens.py, _WORD. */
static int script_of(uint32_t c)
{
    if (c < 0x80)
        return KINDS[c] & IN_WORD ? LOWER : 0;
    if (c <= 0x24f)
        return (c >= 0xdf && c <= 0xf6) || c >= 0xf8 ? LOWER : 0;
    if ((c >= 0x300 && c <= 0x36f) || (c >= 0x1e01 && c <= 0x1eff))
        return LOWER;
    bool space = c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
                 c == 0x202f || c == 0x205f || c == 0x3000;
    return space ? 0 : UPPER;
}

static bool is_spaced(const char *run)
{
    uint32_t point;
    decoded(run, &point);
    return point >= 0x370 && point < 0xe00; /* tokens.py */
}

/* Return how many bytes the first *chars* characters of *text* have; *size* where it has fewer. */
static int beginning(const char *text, int size, int chars)
{
    uint32_t point;
    int at = 0;
    for (; chars > 0 && at < size; chars--)
        at += decoded(text + at, &point);
    return at;
}

/* Take the text and put it into lower case; say which ASCII is in it. False: not for us. */
static bool take(Found *found, PyObject *object, bool *has)
{
    Py_ssize_t size, lowered_size;
    if (!PyUnicode_Check(object) || PyUnicode_GetLength(object) > MOST_BYTES)
        return false;
    found->text = PyUnicode_AsUTF8AndSize(object, &size);
    if (!found->text) {
        PyErr_Clear(); /* half a surrogate pair */
        return false;
    }
    if (size > MOST_BYTES)
        return false;
    memset(has, 0, 256 * sizeof *has);
    found->bytes = found->lowered = (int)size;
    found->begin_used = found->beyond = false;
    found->names = found->counted = found->tokens = found->phrases = found->known = 0;
    found->flags = found->classes = 0;
    found->told = found->order = found->stems = found->stemmed = found->parts = 0;
    found->sum = 0;
    found->seen_marks = 0;
    char any = 0;
    int before = 0, humps = 0;
    for (int i = 0; i < size; i++) {
        char c = found->text[i];
        int kind = KINDS[(unsigned char)c];
        any |= c;
        has[(unsigned char)c] = true;
        found->lower[i] = (char)(c | (kind & UPPER) << 2); /* UPPER is 8, and 32 makes it small */
        humps |= kind & UPPER && before & ALPHA;
        before = kind;
    }
    found->humps = humps;
    found->ascii = !(any & 0x80);
    if (found->ascii)
        return true;
    PyObject *lowered = PyObject_CallMethod(object, "lower", NULL);
    const char *text = lowered ? PyUnicode_AsUTF8AndSize(lowered, &lowered_size) : NULL;
    bool taken = text && lowered_size <= MOST_BYTES;
    if (taken) {
        memcpy(found->lower, text, (size_t)lowered_size);
        found->lowered = (int)lowered_size;
    }
    Py_XDECREF(lowered);
    PyErr_Clear();
    return taken;
}

/* Return where the Latin word, or the run of others, that starts at *at* ends; *at* for neither.
 * Tell its hash and its script. */
static inline int token_end(const Found *found, int at, uint32_t *hash, int *script)
{
    uint32_t made = HASH_BASIS, point;
    const char *text = found->lower;
    int start = at, size;
    *script = 0;
    for (;;) {
        /* Most of it is ASCII, which no run of others goes on in. */
        for (; at < found->lowered && !(text[at] & 0x80); at++) {
            char c = text[at];
            if (!(KINDS[(int)c] & IN_WORD) || (c == '.' && at != start) || *script == UPPER)
                goto ended;
            *script = LOWER;
            made = hashed(made, c);
        }
        if (at == found->lowered)
            break;
        size = decoded(text + at, &point);
        int is = script_of(point);
        if (!is || (*script && is != *script))
            break;
        *script = is;
        for (int i = 0; i < size; i++)
            made = hashed(made, text[at + i]);
        at += size;
    }
ended:
    *hash = made;
    return at;
}

/* What the byte at *at* is; nothing where there is none, and where it is no ASCII. */
static int kind_at(const Found *found, int at)
{
    return at < 0 || at >= found->bytes ? 0 : KINDS[(unsigned char)found->text[at]];
}

static bool is_ascii_at(const Found *found, int at)
{
    return at < 0 || at >= found->bytes || !(found->text[at] & 0x80);
}
