/* Takes the table from Python, whose side is compiled.py, and looks at every number in it. */
#pragma once
#include "text.h"

static uint32_t mask_for(Py_ssize_t count)
{
    uint32_t mask = 15;
    while (mask < 2 * (uint32_t)count)
        mask = 2 * mask + 1;
    return mask;
}

static Slot *slots_of(uint32_t mask)
{
    Slot *slots = PyMem_Calloc((size_t)mask + 1, sizeof *slots);
    if (!slots)
        PyErr_NoMemory();
    return slots;
}

static void put(Slot *slots, uint32_t mask, uint32_t at, uint32_t hash, uint32_t place)
{
    for (at &= mask; slots[at].place; at = (at + 1) & mask)
        ;
    slots[at] = (Slot){hash, place + 1};
}

/* Return how many *list* holds; -1 and an error set where it is no list, or holds too many. */
static Py_ssize_t length(PyObject *list, const char *what, Py_ssize_t most)
{
    if (!PyList_Check(list)) {
        PyErr_Format(PyExc_TypeError, "%s must be a list", what);
        return -1;
    }
    Py_ssize_t count = PyList_Size(list);
    if (count > most) {
        PyErr_Format(PyExc_ValueError, "%zd %s, room for %zd", count, what, most);
        return -1;
    }
    return count;
}

static bool wrong(const char *what)
{
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "%s out of range", what);
    return true;
}

/* Return *name* as the one object of its kind; what is compared by address must be that. */
static PyObject *interned(PyObject *name)
{
    Py_INCREF(name);
    PyUnicode_InternInPlace(&name);
    return name;
}

static bool take_words(Scan *self, PyObject *list)
{
    Py_ssize_t count = length(list, "words", 1 << 20), size;
    if (count < 0 || !(self->words = PyMem_Calloc((size_t)count + 1, sizeof *self->words)))
        return wrong("words");
    self->word_mask = mask_for(count);
    if (!(self->word_slots = slots_of(self->word_mask)))
        return true;
    for (Py_ssize_t i = 0; i < count; i++) {
        Word *word = &self->words[i];
        PyObject *name;
        int flags, group;
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "Uiiii", &name, &word->rank, &word->weight,
                              &group, &flags))
            return true;
        word->name = interned(name);
        self->word_count++;
        const char *text = PyUnicode_AsUTF8AndSize(word->name, &size);
        if (!text || size < 1 || size > 255 || group < -1 || group >= self->groups || flags & ~255)
            return wrong("a word");
        word->text = text;
        word->size = (uint8_t)size;
        word->group = (int16_t)group;
        word->flags = (uint8_t)flags;
        word->hash = hash_of(text, (int)size);
        put(self->word_slots, self->word_mask, spread(word->hash), word->hash, (uint32_t)i);
    }
    return false;
}

/* Take the parts, as lists of places by the place of what they begin with. */
static bool take_parts(Scan *self, PyObject *list)
{
    Py_ssize_t count = length(list, "parts", UINT16_MAX);
    if (count < 0 || !(self->parts = PyMem_Calloc((size_t)count + 1, sizeof *self->parts)))
        return wrong("parts");
    for (Py_ssize_t i = 0; i < count; i++) {
        int begin, place;
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "ii", &begin, &place))
            return true;
        if (begin < 0 || begin >= (int)self->word_count || place < 0 ||
            place >= (int)self->word_count)
            return wrong("a part");
        Word *word = &self->words[begin];
        if (word->part_count && word->parts + word->part_count != i)
            return wrong("the order of parts");
        if (!word->part_count)
            word->parts = (uint16_t)i;
        word->part_count++;
        self->parts[i] = (uint32_t)place;
    }
    return false;
}

/* Take the signs, each with the place of its word, in their order; -1: of text in any script. */
static bool take_signs(Scan *self, PyObject *list)
{
    Py_ssize_t count = length(list, "signs", UINT16_MAX);
    if (count < 0 || !(self->signs = PyMem_Calloc((size_t)count + 1, sizeof *self->signs)))
        return wrong("signs");
    for (Py_ssize_t i = 0; i < count; i++) {
        Sign *sign = &self->signs[i];
        PyObject *name;
        int place;
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "iUd", &place, &name, &sign->weight))
            return true;
        if (place < -1 || place >= (int)self->word_count)
            return wrong("a sign");
        sign->name = interned(name);
        self->sign_count++;
        sign->text = PyUnicode_AsUTF8AndSize(sign->name, &sign->size);
        if (!sign->text)
            return true;
        if (place < 0) {
            if (!self->other_sign_count++)
                self->other_signs = (int)i;
            continue;
        }
        Word *word = &self->words[place];
        if (word->sign_count && word->signs + word->sign_count != i)
            return wrong("the order of signs");
        if (!word->sign_count++)
            word->signs = (uint16_t)i;
    }
    return false;
}

static bool take_pairs(Scan *self, PyObject *list)
{
    Py_ssize_t count = length(list, "pairs", MOST_PAIRS);
    if (count < 0 || !(self->pairs = PyMem_Calloc((size_t)count + 1, sizeof *self->pairs)))
        return wrong("pairs");
    self->pair_mask = mask_for(count);
    if (!(self->pair_slots = slots_of(self->pair_mask)))
        return true;
    for (Py_ssize_t i = 0; i < count; i++) {
        Pair *pair = &self->pairs[i];
        PyObject *name;
        int first, second;
        int group;
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "iiUiii", &first, &second, &name,
                              &pair->rank, &pair->weight, &group))
            return true;
        if (first < 0 || first >= (int)self->word_count || second < 0 ||
            second >= (int)self->word_count || group < -1 || group >= self->groups)
            return wrong("a pair");
        pair->name = interned(name);
        self->pair_count++;
        pair->group = (int16_t)group;
        pair->key = (uint64_t)first << 32 | (uint32_t)second;
        uint32_t hash = hash_of_pair(pair->key);
        put(self->pair_slots, self->pair_mask, hash, hash, (uint32_t)i);
    }
    return false;
}

static bool take_groups(Scan *self, PyObject *groups, PyObject *further)
{
    Py_ssize_t count = length(groups, "groups", MOST_GROUPS);
    Py_ssize_t furthers = length(further, "further", MOST_GROUPS);
    if (count < 0 || furthers < 1)
        return wrong("groups");
    for (Py_ssize_t i = 0; i < count; i++)
        self->group_weights[i] = (int32_t)PyLong_AsLong(PyList_GetItem(groups, i));
    for (Py_ssize_t i = 0; i < furthers; i++)
        self->further[i] = PyFloat_AsDouble(PyList_GetItem(further, i));
    self->groups = (int)count;
    self->furthers = (int)furthers;
    return PyErr_Occurred() != NULL;
}

static bool take_marks(Scan *self, PyObject *marks, PyObject *others)
{
    Py_ssize_t count = length(marks, "marks", MOST_MARKS);
    if (count < 0 || length(others, "other marks", OTHER_MARKS) != OTHER_MARKS)
        return wrong("marks");
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name;
        if (!PyArg_ParseTuple(PyList_GetItem(marks, i), "Ud", &name, &self->mark_weights[i]))
            return true;
        self->mark_names[i] = interned(name);
        self->marks++;
    }
    for (int i = 0; i < OTHER_MARKS; i++) {
        long place = PyLong_AsLong(PyList_GetItem(others, i));
        if (place < 0 || place >= self->marks)
            return wrong("another mark");
        self->other_marks[i] = (uint8_t)place;
    }
    return false;
}

/* Take short strings. */
static bool take_short(PyObject *list, char (*into)[16], int *taken)
{
    Py_ssize_t count = length(list, "short strings", MOST_FIXED), size;
    for (Py_ssize_t i = 0; i < count; i++) {
        const char *text = PyUnicode_AsUTF8AndSize(PyList_GetItem(list, i), &size);
        if (!text || size >= (Py_ssize_t)sizeof *into)
            return wrong("a short string");
        memcpy(into[i], text, (size_t)size);
        ++*taken;
    }
    return count < 0;
}

static bool take_fixed(Scan *self, PyObject *list, PyObject *prose)
{
    Py_ssize_t count = length(list, "fixed strings", MOST_FIXED);
    if (count < 0)
        return true;
    for (Py_ssize_t i = 0; i < count; i++) {
        Fixed *fixed = &self->fixed[i];
        const char *sign, *text;
        int mark, of_lines, of_capitals;
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "ss#ipp", &sign, &text, &fixed->size, &mark,
                              &of_lines, &of_capitals))
            return true;
        if (*sign & 0x80 || fixed->size < 1 || mark < 0 || mark >= self->marks)
            return wrong("a fixed string");
        if (!(fixed->text = PyMem_Malloc((size_t)fixed->size)))
            return PyErr_NoMemory() == NULL;
        memcpy(fixed->text, text, (size_t)fixed->size);
        self->fixed_count++;
        fixed->sign = *sign;
        fixed->mark = (uint8_t)mark;
        fixed->of_lines = of_lines;
        fixed->of_capitals = of_capitals;
    }
    return take_short(prose, self->prose, &self->prose_count);
}

static void Scan_dealloc(PyObject *object)
{
    Scan *self = (Scan *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (uint32_t i = 0; i < self->word_count; i++)
        Py_DECREF(self->words[i].name);
    for (uint32_t i = 0; i < self->pair_count; i++)
        Py_DECREF(self->pairs[i].name);
    for (int i = 0; i < self->marks; i++)
        Py_DECREF(self->mark_names[i]);
    for (int i = 0; i < self->fixed_count; i++)
        PyMem_Free(self->fixed[i].text);
    PyMem_Free(self->words);
    PyMem_Free(self->pairs);
    for (int i = 0; i < self->sign_count; i++)
        Py_DECREF(self->signs[i].name);
    PyMem_Free(self->signs);
    PyMem_Free(self->parts);
    PyMem_Free(self->word_slots);
    PyMem_Free(self->pair_slots);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static PyObject *Scan_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"words",       "pairs", "groups", "further", "marks",
                            "other_marks", "fixed", "prose",  "parts",   "prefixes",
                            "signs",       "whole", "real",   NULL};
    PyObject *words, *pairs, *groups, *further, *marks, *others, *fixed, *prose, *parts, *prefixes;
    PyObject *signs, *whole, *real;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$OOOOOOOOOOOO!O!", names, &words, &pairs,
                                     &groups, &further, &marks, &others, &fixed, &prose, &parts,
                                     &prefixes, &signs, &PyTuple_Type, &whole, &PyTuple_Type,
                                     &real))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Scan *self = (Scan *)allocate(type, 0);
    if (!self)
        return NULL;
    bool bad = !PyArg_ParseTuple(whole, "iiiiiiii", &self->begin, &self->told, &self->typical,
                                 &self->more_known, &self->reach, &self->stem, &self->latin_stem,
                                 &self->shown) ||
               !PyArg_ParseTuple(real, "dddddddddd", &self->unit, &self->prior,
                                 &self->says_little[0], &self->says_little[1], &self->context_cap,
                                 &self->reply_weight, &self->sure_sign, &self->tool_weight,
                                 &self->most_of_agents, &self->least_shown);
    if (bad || take_groups(self, groups, further) || take_words(self, words) ||
        take_pairs(self, pairs) || take_marks(self, marks, others) || take_parts(self, parts) ||
        take_fixed(self, fixed, prose) ||
        take_short(prefixes, self->prefixes, &self->prefix_count) || take_signs(self, signs) ||
        ((self->begin < 0 || (uint32_t)self->begin >= self->word_count || self->told < 1 ||
          self->told > MOST_TOLD || self->more_known < 1 || self->shown < 1 ||
          self->shown > MOST_SHOWN) &&
         wrong("a setting"))) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}
