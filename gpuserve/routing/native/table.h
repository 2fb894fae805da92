/* The table: what is known of words, pairs, classes, marks and signs, and how much there may be. */
#pragma once
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

/* UTF-8: a window is 601 characters, of three bytes mostly. Names are different tokens, a full stop
 * is one, runs of punctuation, and pieces. */
#define MOST_BYTES 3072
#define MOST_NAMES 2048
#define MOST_SLOTS 8192  /* twice MOST_BYTES at least, a power of two */
#define MOST_PAIRS 16384 /* of the table */
#define MOST_GROUPS 64
#define MOST_MARKS 64
#define MOST_TOLD 16
#define MOST_TERMS 512
#define MOST_SHOWN 16
#define MOST_FIXED 64
#define LOOKS 8 /* marks.py, _LOOKS */

/* What a word of the table is, besides its weight. */
enum { MAKE = 1, THING = 2, SIGN = 4, FIRST = 8, SECOND = 16, WORD = 32, STEM = 64, PART = 128 };

/* What a character is. */
enum { IN_WORD = 1, PUNCTUATION = 2, LOWER = 4, UPPER = 8, DIGIT = 16, BEFORE_PATH = 32 };
#define ALPHA (LOWER | UPPER)
#define ALNUM (ALPHA | DIGIT)

/* Marks that are not fixed strings, in the order in which a Scan is given them. */
enum {
    BACKTICK,
    FENCED_PROSE,
    FENCE,
    FENCE_OF_CODE,
    CALL,
    SUBSCRIPT,
    SNAKE_CASE,
    ERROR_TYPE,
    OPTION,
    PATH,
    CAMEL_CASE,
    ASKS,
    OTHER_MARKS
};

typedef struct {
    const char *text; /* the bytes of `name` */
    PyObject *name;
    uint32_t hash;
    int32_t rank; /* -1: the model has no such word */
    int32_t weight;
    uint16_t signs, sign_count; /* of a coding agent, in `signs` */
    uint16_t parts, part_count; /* the parts of unspaced text that begin with it, in `parts` */
    int16_t group; /* of the lexicon, in which it is a word, a stem or a part; -1: it is not */
    uint8_t size;
    uint8_t flags;
} Word;

typedef struct {
    PyObject *name; /* a word, or a phrase that stands in the text where the word does */
    const char *text;
    Py_ssize_t size;
    double weight;
} Sign;

typedef struct {
    uint64_t key; /* the places of its words */
    PyObject *name;
    int32_t rank, weight;
    int16_t group;
} Pair;

typedef struct {
    uint32_t hash, place; /* place + 1 of what has the hash; 0 for none */
} Slot;

typedef struct {
    char *text; /* a copy */
    Py_ssize_t size;
    char sign; /* must be in the text as well */
    uint8_t mark;
    bool of_lines, of_capitals;
} Fixed;

typedef struct {
    PyObject_HEAD Word *words;
    Pair *pairs;
    uint32_t *parts; /* places of words */
    Sign *signs;
    Slot *word_slots, *pair_slots;
    uint32_t word_count, word_mask, pair_count, pair_mask;
    int32_t begin; /* the place of the word that stands before the first token */
    int groups, furthers, marks, fixed_count, prose_count;
    int told, typical, more_known, reach, stem, latin_stem, prefix_count, shown;
    int sign_count, other_signs, other_sign_count;
    double unit, prior, says_little[2], context_cap, reply_weight, sure_sign, tool_weight;
    double most_of_agents, least_shown;
    int32_t group_weights[MOST_GROUPS];
    double further[MOST_GROUPS];
    PyObject *mark_names[MOST_MARKS];
    double mark_weights[MOST_MARKS];
    uint8_t other_marks[OTHER_MARKS];
    Fixed fixed[MOST_FIXED];
    char prose[MOST_FIXED][16], prefixes[MOST_FIXED][16];
} Scan;
