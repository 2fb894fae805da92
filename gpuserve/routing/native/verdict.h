/* A verdict on a conversation, and its reasons: classify.py, agents.py. */
#pragma once
#include "sum.h"

/* Put what speaks for a coding agent in the words of the text into *agent*, from *least* on. */
static void find_signs(const Scan *self, const Found *found, int32_t place, double least,
                       Terms *agent)
{
    if (place < 0 || !(self->words[place].flags & SIGN))
        return;
    const Word *word = &self->words[place];
    for (int i = 0; i < word->sign_count; i++) {
        const Sign *sign = &self->signs[word->signs + i];
        if (sign->weight < least)
            continue;
        if (sign->name == word->name ||
            memmem(found->lower, (size_t)found->lowered, sign->text, sign->size))
            set_term(agent, agent->count, sign->name, sign->weight);
    }
}

/* The same for a text of which nothing else counts; false: not for us. */
static bool find_signs_in(const Scan *self, PyObject *text, Found *found, double least,
                          Terms *agent)
{
    bool has[256];
    if (!take(found, text, has))
        return false;
    for (int i = 0; i < found->lowered;) {
        uint32_t hash, point;
        int script, end = token_end(found, i, &hash, &script);
        if (end == i) {
            i += decoded(found->lower + i, &point);
            continue;
        }
        int32_t place = word_at(self, found->lower + i, (size_t)(end - i), hash);
        find_signs(self, found, place, least, agent);
        i = end;
    }
    return true;
}

/* Return the sum of *agent*, as far as it counts, and shorten its terms to that. */
static double capped(const Scan *self, Terms *agent)
{
    double whole = 0;
    for (int i = 0; i < agent->count; i++)
        whole += agent->term[i].weight;
    if (whole <= self->most_of_agents)
        return whole;
    for (int i = 0; i < agent->count; i++)
        agent->term[i].weight = agent->term[i].weight * self->most_of_agents / whole;
    return self->most_of_agents;
}

static void add_terms(Terms *terms, const Terms *more, const char *prefix, double share)
{
    for (int i = 0; i < more->count; i++) {
        if (terms->count == MOST_TERMS) {
            terms->beyond = true;
            return;
        }
        terms->term[terms->count++] =
            (Term){more->term[i].name, prefix, more->term[i].weight * share};
    }
}

/* Whether *one* comes before *other*: by weight, and by name, the last in the alphabet first. */
static bool is_heavier(const Term *one, const Term *other)
{
    double a = fabs(one->weight), b = fabs(other->weight);
    if (a != b)
        return a > b;
    const char *first = PyUnicode_AsUTF8AndSize(one->name, NULL);
    const char *second = PyUnicode_AsUTF8AndSize(other->name, NULL);
    char texts[2][600];
    PyOS_snprintf(texts[0], sizeof *texts, "%s%s", one->prefix, first ? first : "");
    PyOS_snprintf(texts[1], sizeof *texts, "%s%s", other->prefix, second ? second : "");
    return strcmp(texts[0], texts[1]) > 0;
}

/* Return the heaviest of *terms* as a tuple of str such as "python +2.8". */
static PyObject *reasons_of(const Scan *self, const Terms *terms)
{
    const Term *heaviest[MOST_SHOWN + 1];
    int count = 0;
    for (int i = 0; i < terms->count; i++) {
        const Term *term = &terms->term[i];
        if (fabs(term->weight) < self->least_shown)
            continue;
        int at = count;
        for (; at > 0 && is_heavier(term, heaviest[at - 1]); at--)
            heaviest[at] = heaviest[at - 1];
        heaviest[at] = term;
        count += count < self->shown;
    }
    PyObject *reasons = PyTuple_New(count);
    for (int i = 0; reasons && i < count; i++) {
        char *weight = PyOS_double_to_string(heaviest[i]->weight, 'f', 1, Py_DTSF_SIGN, NULL);
        PyObject *reason =
            weight ? PyUnicode_FromFormat("%s%U %s", heaviest[i]->prefix, heaviest[i]->name, weight)
                   : NULL;
        PyMem_Free(weight);
        if (!reason || PyTuple_SetItem(reasons, i, reason))
            Py_CLEAR(reasons);
    }
    return reasons;
}

/* What a call works on, too much for one frame of its own. */
typedef struct {
    Found found;
    Terms terms, asked, replied, agent;
} Work;

/* Add what was said before the last turn, if that says little; false: not for us. */
static bool add_context(const Scan *self, Work *work, PyObject *before, PyObject *reply,
                        bool is_short, double *total)
{
    double asked, replied;
    if (!is_short && !(self->says_little[0] < *total && *total < self->says_little[1]))
        return true;
    if (!weigh(self, before, &work->found, &work->asked, &asked))
        return false;
    double context = self->prior + asked;
    if (reply != Py_None) {
        if (!weigh(self, reply, &work->found, &work->replied, &replied))
            return false;
        context += (self->prior + replied) * self->reply_weight;
        int own = work->asked.count;
        for (int i = 0; i < work->replied.count; i++) {
            const Term *term = &work->replied.term[i];
            int at = 0;
            while (at < own && work->asked.term[at].name != term->name)
                at++;
            if (at == own)
                set_term(&work->asked, 0, term->name, term->weight * self->reply_weight);
        }
    }
    double cap = self->context_cap;
    double counted = context > cap ? cap : context < -cap ? -cap : context;
    *total += counted;
    add_terms(&work->terms, &work->asked, "earlier: ", context != 0 ? counted / context : 0.0);
    return !work->asked.beyond;
}

/* Return (log-odds of code, reasons), or None: not for us. */
static PyObject *Scan_verdict(PyObject *object, PyObject *args)
{
    const Scan *self = (const Scan *)object;
    PyObject *last, *before, *reply, *earlier, *system, *tool;
    int is_short;
    if (!PyArg_ParseTuple(args, "UpOOO!OO", &last, &is_short, &before, &reply, &PyTuple_Type,
                          &earlier, &system, &tool))
        return NULL;
    if (tool != Py_None && !PyUnicode_Check(tool))
        return PyErr_Format(PyExc_TypeError, "the name of a tool must be a str");
    Work storage, *work = &storage;
    Found *found = &work->found;
    double total;
    work->terms.beyond = work->asked.beyond = work->replied.beyond = work->agent.beyond = false;
    work->agent.count = 0;
    if (!weigh(self, last, found, &work->terms, &total))
        Py_RETURN_NONE;
    total += self->prior;
    for (int i = 0; found->flags & SIGN && i < found->names; i++)
        if (found->name[i].is & LATIN)
            find_signs(self, found, found->name[i].word, self->sure_sign, &work->agent);
    if (before != Py_None && !add_context(self, work, before, reply, is_short, &total))
        Py_RETURN_NONE;

    Terms *scene = &work->replied; /* it is done with */
    scene->count = 0;
    if (system != Py_None) {
        if (!find_signs_in(self, system, found, 0, scene))
            Py_RETURN_NONE;
        for (int i = 0; !found->ascii && i < self->other_sign_count; i++) {
            const Sign *sign = &self->signs[self->other_signs + i];
            if (memmem(found->lower, (size_t)found->lowered, sign->text, sign->size))
                set_term(scene, scene->count, sign->name, sign->weight);
        }
    }
    if (tool != Py_None)
        set_term(scene, 0, tool, self->tool_weight);
    total += capped(self, scene);
    add_terms(&work->terms, scene, "system: ", 1.0);

    for (Py_ssize_t i = 0; i < PyTuple_Size(earlier); i++)
        if (!find_signs_in(self, PyTuple_GetItem(earlier, i), found, self->sure_sign, &work->agent))
            Py_RETURN_NONE;
    total += capped(self, &work->agent);
    for (int i = 0; i < work->agent.count; i++)
        set_term(&work->terms, work->terms.count, work->agent.term[i].name,
                 work->agent.term[i].weight);
    if (work->terms.beyond)
        Py_RETURN_NONE;
    PyObject *reasons = reasons_of(self, &work->terms);
    return reasons ? Py_BuildValue("dN", total, reasons) : NULL;
}
