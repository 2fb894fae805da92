/* Words, punctuation, neighbours, pieces, and entries of the lexicon: tokens.py, lexicon.py. */
#pragma once
#include "text.h"

static int32_t word_at(const Scan *self, const char *text, size_t size, uint32_t hash)
{
    for (uint32_t i = spread(hash) & self->word_mask;; i = (i + 1) & self->word_mask) {
        Slot slot = self->word_slots[i];
        if (!slot.place)
            return -1;
        if (slot.hash == hash) {
            const Word *word = &self->words[slot.place - 1];
            if (word->size == size && !memcmp(word->text, text, size))
                return (int32_t)slot.place - 1;
        }
    }
}

static int32_t pair_at(const Scan *self, uint64_t key)
{
    uint32_t hash = hash_of_pair(key);
    for (uint32_t i = hash & self->pair_mask;; i = (i + 1) & self->pair_mask) {
        Slot slot = self->pair_slots[i];
        if (!slot.place)
            return -1;
        if (slot.hash == hash && self->pairs[slot.place - 1].key == key)
            return (int32_t)slot.place - 1;
    }
}

/* Count what the model knows, and keep the heaviest, the heaviest first. */
static void count(const Scan *self, Found *found, int32_t rank, int32_t weight, PyObject *name)
{
    found->known++;
    found->sum += weight;
    int at = found->told;
    if (at == self->told) {
        if (found->heaviest[at - 1].rank < rank)
            return;
        at--;
    } else {
        found->told++;
    }
    for (; at > 0 && found->heaviest[at - 1].rank > rank; at--)
        found->heaviest[at] = found->heaviest[at - 1];
    found->heaviest[at] = (Told){rank, weight, name};
}

/* Return the number of a name in the text, each once, which is *kind* besides what it was. */
static uint16_t name_of(const Scan *self, Found *found, int start, int size, uint32_t hash,
                        int kind)
{
    const char *text = found->lower + start;
    uint32_t mask = (uint32_t)found->mask, i = spread(hash) & mask;
    Name *name;
    for (;; i = (i + 1) & mask) {
        uint16_t slot = found->slots[i];
        if (!slot) {
            if (found->names == MOST_NAMES || found->names == found->mask) {
                found->beyond = true;
                return 0;
            }
            name = &found->name[found->names++];
            found->slots[i] = (uint16_t)found->names;
            int32_t place = word_at(self, text, (size_t)size, hash);
            *name = (Name){hash, place, (uint16_t)start, (uint16_t)size, 0, false};
            break;
        }
        name = &found->name[slot - 1];
        if (name->hash == hash && name->size == size &&
            !memcmp(found->lower + name->start, text, (size_t)size))
            break;
    }
    if (name->is & kind)
        return (uint16_t)(name - found->name);
    const Word *word = name->word < 0 ? NULL : &self->words[name->word];
    if (kind != OTHER && !(name->is & (LATIN | PIECE))) {
        found->counted++;
        if (word && word->rank >= 0)
            count(self, found, word->rank, word->weight, word->name);
    }
    if (kind == LATIN && word) {
        found->flags |= word->flags;
        if (word->flags & WORD)
            found->classed[found->classes++] = (uint16_t)(name - found->name);
    }
    name->is |= (uint8_t)kind;
    return (uint16_t)(name - found->name);
}

/* Stems of a word with an ending, or pairs of the characters of a run without spaces. */
static void find_pieces(const Scan *self, Found *found, int start, int size, bool latin)
{
    char *text = found->lower + start;
    if (latin) {
        int stem = beginning(text, size, self->latin_stem);
        if (stem == size)
            return;
        char *copy = found->lower + found->lowered + found->stems;
        if (found->stems + stem + 1 > (int)sizeof found->lower - found->lowered) {
            found->beyond = true;
            return;
        }
        memcpy(copy, text, (size_t)stem);
        copy[stem] = '~';
        name_of(self, found, (int)(copy - found->lower), stem + 1, hash_of(copy, stem + 1), PIECE);
        found->stems += stem + 1;
    } else if (is_spaced(text)) {
        int stem = beginning(text, size, self->stem);
        name_of(self, found, start, stem, hash_of(text, stem), PIECE);
    } else {
        for (int at = 0, next, end; next = at + beginning(text + at, size - at, 1), next < size;
             at = next) {
            end = next + beginning(text + next, size - next, 1);
            name_of(self, found, start + at, end - at, hash_of(text + at, end - at), PIECE);
        }
    }
}

/* Cut the text into tokens, runs of punctuation and pieces; count those that the model knows. */
static void find_names(const Scan *self, Found *found)
{
    found->mask = 63;
    while (found->mask < 2 * found->lowered)
        found->mask = 2 * found->mask + 1;
    memset(found->slots, 0, sizeof *found->slots * (size_t)(found->mask + 1));
    bool pieces = false; /* of text that is no ASCII in lower case */
    for (int i = 0; !found->ascii && !pieces && i < found->lowered; i++)
        pieces = found->lower[i] & 0x80;
    for (int i = 0; i < found->lowered;) {
        uint32_t hash, point;
        int script, end = token_end(found, i, &hash, &script);
        if (end == i) {
            i += decoded(found->lower + i, &point);
            continue;
        }
        bool latin = script == LOWER;
        found->token_names[found->tokens++] =
            name_of(self, found, i, end - i, hash, latin ? LATIN : OTHER);
        if (pieces)
            find_pieces(self, found, i, end - i, latin);
        i = end;
    }
    for (int i = 0; i < found->lowered; i++) {
        int start = i;
        uint32_t hash = HASH_BASIS;
        for (; i < found->lowered && KINDS[(unsigned char)found->lower[i]] & PUNCTUATION; i++)
            hash = hashed(hash, found->lower[i]);
        if (i > start)
            name_of(self, found, start, i - start, hash, LATIN);
    }
}

/* Find the neighbours that the table has, each once; a phrase of the lexicon uses up its words. */
static void find_pairs(const Scan *self, Found *found)
{
    uint64_t met[MOST_PAIRS / 64];
    memset(met, 0, (self->pair_count + 63) / 64 * sizeof *met);
    int32_t previous = self->begin;
    Name *before = NULL;
    for (int i = 0; i < found->tokens; i++) {
        Name *name = &found->name[found->token_names[i]];
        int32_t place = name->word;
        if (previous >= 0 && place >= 0 && self->words[previous].flags & FIRST &&
            self->words[place].flags & SECOND) {
            int32_t at = pair_at(self, (uint64_t)previous << 32 | (uint32_t)place);
            if (at >= 0 && !(met[at / 64] >> at % 64 & 1)) {
                const Pair *pair = &self->pairs[at];
                met[at / 64] |= (uint64_t)1 << at % 64;
                if (pair->rank >= 0)
                    count(self, found, pair->rank, pair->weight, pair->name);
                if (pair->group >= 0) {
                    found->phrase[found->phrases++] = (uint16_t)at;
                    name->used = true;
                    if (before)
                        before->used = true;
                    else
                        found->begin_used = true;
                }
            }
        }
        previous = place;
        before = name;
    }
}

/* Return the place of the longest stem that the word begins with, -1 for none; lexicon.py. */
static int32_t stem_of(const Scan *self, const char *text, int size)
{
    enum { LONGEST = 7, SURE = 4, SHORTEST = 2 };
    for (int chars = LONGEST; chars >= SHORTEST; chars--) {
        int end = beginning(text, size, chars);
        int32_t place = word_at(self, text, (size_t)end, hash_of(text, end));
        if (place >= 0 && self->words[place].flags & STEM &&
            (chars >= SURE || beginning(text, size, chars + 2) == size))
            return place;
    }
    return -1;
}

/* Find the stems and the parts of the lexicon in runs of other scripts. */
static void find_others(const Scan *self, Found *found)
{
    bool unspaced = false;
    for (int i = 0; i < found->names; i++) {
        const Name *name = &found->name[i];
        const char *text = found->lower + name->start;
        if (!(name->is & OTHER))
            continue;
        if (!is_spaced(text)) {
            unspaced = true;
            continue;
        }
        int32_t place = stem_of(self, text, name->size);
        uint32_t first;
        decoded(text, &first);
        for (int p = 0; place < 0 && first >= 0x590 && first <= 0x6ff && p < self->prefix_count;
             p++) {
            const char *prefix = self->prefixes[p];
            int size = (int)strlen(prefix);
            if (name->size > size && !memcmp(prefix, text, (size_t)size) &&
                beginning(text + size, name->size - size, 2) < name->size - size)
                place = stem_of(self, text + size, name->size - size);
        }
        if (place >= 0)
            found->stem[found->stemmed++] = (uint32_t)place;
    }
    for (int i = 0; unspaced && i < found->names; i++) {
        const Name *name = &found->name[i];
        if (!(name->is & PIECE) || name->word < 0)
            continue;
        const Word *begin = &self->words[name->word];
        for (int p = 0; p < begin->part_count; p++) {
            uint32_t place = self->parts[begin->parts + p];
            const Word *part = &self->words[place];
            if (found->parts < MOST_NAMES &&
                memmem(found->lower, (size_t)found->lowered, part->text, part->size))
                found->part[found->parts++] = place;
        }
    }
}

/* Whether a verb such as "write" has a thing such as "function" a few words behind it. */
static bool asks_to_program(const Scan *self, const Found *found)
{
    int verb = -self->reach - 1;
    if (!(found->flags & MAKE && found->flags & THING))
        return false;
    for (int i = 0; i < found->tokens; i++) {
        int32_t place = found->name[found->token_names[i]].word;
        int flags = place < 0 ? 0 : self->words[place].flags;
        if (flags & MAKE)
            verb = i;
        else if (flags & THING && i - verb <= self->reach)
            return true;
    }
    return false;
}
