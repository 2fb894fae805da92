/* What a text weighs, and by what: model.py. */
#pragma once
#include <math.h>
#include "marks.h"
#include "words.h"

/* What weighs, by name; names are interned, so that one name is one object. */
typedef struct {
    PyObject *name;
    const char *prefix;
    double weight;
} Term;

typedef struct {
    int count;
    bool beyond; /* more than there is room for */
    Term term[MOST_TERMS];
} Terms;

/* Set the weight of a name that may be among the first *among* terms. */
static void set_term(Terms *terms, int among, PyObject *name, double weight)
{
    for (int i = 0; i < among; i++) {
        if (terms->term[i].name == name && !*terms->term[i].prefix) {
            terms->term[i].weight = weight;
            return;
        }
    }
    if (terms->count == MOST_TERMS)
        terms->beyond = true;
    else
        terms->term[terms->count++] = (Term){name, "", weight};
}

/* Return the word by which the name *at* of `classed` counts; NULL where a phrase used it up. */
static const Word *classed(const Scan *self, const Found *found, int at)
{
    const Name *name = &found->name[found->classed[at]];
    bool used = name->used || (found->begin_used && name->word == self->begin);
    return used ? NULL : &self->words[name->word];
}

static double own_of(const Word *word, double each)
{
    return word->rank >= 0 ? word->weight * each : 0.0;
}

/* Return the sum in log-odds and put its heaviest terms into *terms*. */
static double summed(const Scan *self, const Found *found, Terms *terms)
{
    double each = 1.0 / sqrt((double)(self->more_known + found->known)) / self->unit;
    double total = (double)found->sum * each;
    int told = found->told;
    terms->count = 0;
    for (int i = 0; i < told; i++)
        set_term(terms, 0, found->heaviest[i].name, found->heaviest[i].weight * each);

    int entries[MOST_GROUPS] = {0};
    double part[MOST_GROUPS]; /* of each entry in what its class weighs */
    for (int i = 0; i < found->phrases; i++)
        entries[self->pairs[found->phrase[i]].group]++;
    for (int i = 0; i < found->classes; i++) {
        const Word *word = classed(self, found, i);
        if (word)
            entries[word->group]++;
    }
    for (int i = 0; i < found->stemmed; i++)
        entries[self->words[found->stem[i]].group]++;
    for (int i = 0; i < found->parts; i++)
        entries[self->words[found->part[i]].group]++;
    double faint = 1.0;
    if (found->counted >= self->typical)
        faint = sqrt((double)self->typical / (double)found->counted);
    faint /= self->unit;
    for (int group = 0; group < self->groups; group++) {
        if (!entries[group])
            continue;
        int further = entries[group] < self->furthers ? entries[group] : self->furthers - 1;
        double whole = self->group_weights[group] * self->further[further] * faint;
        total += whole;
        part[group] = whole / entries[group];
    }
    for (int i = 0; i < found->phrases; i++) {
        const Pair *pair = &self->pairs[found->phrase[i]];
        bool known = pair->rank >= 0 && pair->rank <= found->heaviest[told - 1].rank;
        double own = known ? pair->weight * each : 0.0; /* as model.py has it */
        set_term(terms, told, pair->name, own + part[pair->group]);
    }
    for (int i = 0; i < found->classes; i++) {
        const Word *word = classed(self, found, i);
        if (word)
            set_term(terms, told, word->name, own_of(word, each) + part[word->group]);
    }
    for (int i = 0; i < found->stemmed; i++) {
        const Word *word = &self->words[found->stem[i]];
        double sum = own_of(word, each) + part[word->group];
        for (int other = 0; other < i; other++) /* two words with one stem count twice */
            if (found->stem[other] == found->stem[i])
                sum += part[word->group];
        set_term(terms, terms->count, word->name, sum);
    }
    for (int i = 0; i < found->parts; i++) {
        const Word *word = &self->words[found->part[i]];
        set_term(terms, told, word->name, own_of(word, each) + part[word->group]);
    }
    for (int i = 0; i < found->order; i++) {
        double weight = self->mark_weights[found->marks[i]];
        set_term(terms, terms->count, self->mark_names[found->marks[i]], weight);
        total += weight;
    }
    return total;
}

/* Weigh *text*; false: not for us. */
static bool weigh(const Scan *self, PyObject *text, Found *found, Terms *terms, double *total)
{
    bool has[256];
    if (!take(found, text, has))
        return false;
    find_names(self, found);
    find_pairs(self, found);
    if (!found->ascii)
        find_others(self, found);
    find_marks(self, found, has);
    if (asks_to_program(self, found))
        see(found, self->other_marks[ASKS]);
    *total = summed(self, found, terms);
    return !found->beyond && !terms->beyond;
}
