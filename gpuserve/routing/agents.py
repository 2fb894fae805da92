"""Coding agents, known by what they always send: their prompts, their tags, their tools.

Every turn of a coding agent is about code, also when it is only "yes" or what a tool returned. Any
other agent decides nothing by its prompt's form, however full of JSON and schemas that is.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from gpuserve.routing.tokens import window, words_of

# What only a coding agent writes, lower case, and its weight in log-odds: names and tags of Cline,
# Roo, aider, Claude Code, Codex, Cursor, Copilot, OpenHands, SWE-agent, Continue, Zed and Windsurf
# at 5, what such prompts speak of below. Not fitted: no public set has enough of them. Words are
# looked up among those of the text; a phrase is looked for only where its rarest word is.
_WORDS: Mapping[str, float] = {
    word: weight
    for weight, words in (
        (5.0, "str_replace_editor str_replace_based_edit_tool apply_patch openhands"),
        (4.0, "vscode run_sql programmier programación programação programmation"),
        (3.0, "codebase programador repositorio repositório développeur programmazione"),
        (3.0, "développement programlama programmierer programmieren quellcode"),
        (2.5, "programming coding refactor refactors refactored refactoring repo repos código"),
        (2.0, "developer developers javascript typescript bash git sql repository repositories"),
        (2.0, "lockfile lockfiles linter linters dépôt codice"),
        (1.5, "terminal patch patches diff diffs commit commits committed compile compiles"),
        (1.5, "compiled compiler compilation python"),
    )
    for word in words.split()
}
_PHRASES: Mapping[str, tuple[tuple[str, float], ...]] = {
    "environment_details": (("<environment_details>", 5.0),),
    "vscode": (("# vscode visible files", 5.0),),
    "replace": (("search/replace block", 5.0),),
    "cline": (("you are cline", 5.0),),
    "roo": (("you are roo", 5.0),),
    "claude": (("claude code", 5.0),),
    "codex": (("codex cli", 5.0),),
    "copilot": (("github copilot", 5.0),),
    "system": (("<system-reminder>", 5.0),),
    "open_files": (("<open_files>", 5.0),),
    "open_and_recently_viewed_files": (("<open_and_recently_viewed_files>", 5.0),),
    "file_content": (("<file_content", 5.0),),
    "uploaded_files": (("<uploaded_files>", 5.0),),
    "pr_description": (("<pr_description>", 5.0),),
    "write_to_file": (("<write_to_file>", 5.0), ("[write_to_file for", 5.0)),
    "execute_command": (("<execute_command>", 5.0), ("[execute_command for", 5.0)),
    "read_file": (("<read_file>", 5.0), ("[read_file for", 5.0)),
    "replace_in_file": (("<replace_in_file>", 5.0), ("[replace_in_file for", 5.0)),
    "swe": (("swe-agent", 5.0),),
    "coding": (("coding agent", 5.0), ("coding assistant", 5.0), ("agentic coding", 5.0)),
    "programming": (("programming assistant", 5.0), ("pair programming", 5.0)),
    "programmer": (("ai pair programmer", 5.0), ("expert programmer", 3.0)),
    "assistant": (("code assistant", 5.0),),
    "engineering": (("software engineering", 3.0),),
    "engineer": (("software engineer", 3.0), ("senior engineer", 3.0)),
    "developer": (("software developer", 3.0), ("senior developer", 3.0)),
    "agent": (("terminal agent", 4.0),),
    "editor": (("the editor", 2.0),),
    "vs": (("vs code", 4.0),),
    "edit": (("edit block", 4.0), ("edit tool", 3.0), ("edit files", 2.0)),
    "code": (("code change", 3.0), ("code base", 2.0), ("write code", 2.0)),
    "source": (("source code", 2.0),),
    "review": (("code review", 3.0),),
    "pull": (("pull request", 2.0),),
    "repo": (("/repo", 3.0), ("git repo", 3.0)),
    "repository": (("git repo", 3.0),),
    "sql": (("read-only sql", 3.0), ("sql quer", 2.0)),
    "directory": (("current working directory", 3.0), ("working directory", 2.0)),
    "workspace": (("workspace root", 3.0),),
    "shell": (("shell command", 3.0),),
    "bash": (("bash command", 3.0),),
    "terminal": (("terminal command", 3.0),),
    "unit": (("unit test", 2.0),),
    "tests": (("run the tests", 2.0),),
    "ide": (("the ide", 2.0),),
    "trình": (("lập trình", 3.0),),
}
# In scripts without spaces, or with endings: looked for as they are.
OTHER_SCRIPTS: tuple[tuple[str, float], ...] = (
    ("编程助手", 5.0),
    ("代码助手", 5.0),
    ("编程", 3.0),
    ("代码", 3.0),
    ("仓库", 2.0),
    ("程式", 2.5),
    ("コーディング", 4.0),
    ("コード", 2.5),
    ("リポジトリ", 3.0),
    ("プログラミング", 3.0),
    ("코딩", 4.0),
    ("코드", 2.5),
    ("프로그래밍", 3.0),
    ("программист", 4.0),
    ("программирован", 3.0),
    ("репозитори", 3.0),
    ("код", 1.5),
    ("programist", 3.0),
    ("برمج", 3.0),
)
# Functions that a coding agent brings along, and nobody else.
_TOOL_NAMES = """
    bash shell terminal execute_command run_command run_terminal_cmd run_terminal_command
    str_replace_editor str_replace_based_edit_tool apply_patch apply_diff edit_file write_file
    write_to_file replace_in_file search_replace search_and_replace insert_content create_file
    create_new_file read_currently_open_file list_code_definition_names codebase_search grep_search
    search_files file_search glob grep ripgrep multiedit multi_edit notebookedit notebook_edit
    git_diff git_status git_commit git_log run_tests execute_bash execute_ipython_cell
    replace_string_in_file run_in_terminal local_shell shell_command get_errors list_dir view_file
    edit read_file open_file semantic_search get_diagnostics read_lints todo_write todowrite
    update_plan exec_command write_stdin browser_action find_symbol get_symbols_overview view cat sh
    patch run_sql execute_sql sql_query execute_query run_code execute_code run_python compile lint
    leer_archivo editar_archivo lesen
"""
_TOOLS = frozenset(_TOOL_NAMES.split())
# What a tool weighs, and the least that counts in a user's turn.
TOOL = 5.0
SIGNS = frozenset((*_WORDS, *_PHRASES))
MOST = 7.0


def scene_terms(system: str, tools: tuple[str, ...]) -> tuple[float, dict[str, float]]:
    """Return what speaks for a coding agent in a system prompt and names of tools, in log-odds.

    The sum, and its terms by their names.
    """
    terms: dict[str, float] = {}
    if system:
        lowered = window(system).lower()
        terms = _signs(lowered, words_of(lowered))
        if not system.isascii():
            terms |= {text: weight for text, weight in OTHER_SCRIPTS if text in lowered}
    tool = coding_tool(tools)
    if tool is not None:
        terms[tool] = TOOL
    return _capped(terms)


def coding_tool(tools: tuple[str, ...]) -> str | None:
    """Return the name of the term of the first of *tools* that only coding agents have."""
    return next((f"tool {name}" for name in tools if name.lower() in _TOOLS), None)


def turn_terms(
    last: str, words: AbstractSet[str], earlier: Iterable[str]
) -> tuple[float, dict[str, float]]:
    """Return what speaks for a coding agent in a user's turns, as `scene_terms` does.

    *last* is the last in lower case, *words* are those in it. Only what nobody else writes counts
    here.
    """
    found = _signs(last, words)
    for text in earlier:
        lowered = text.lower()
        found |= _signs(lowered, words_of(lowered))
    return _capped({term: weight for term, weight in found.items() if weight >= TOOL})


def signs_of(word: str) -> tuple[tuple[str, float], ...]:
    """Return the terms, with their weights, that *word* may make, the word itself among them."""
    own = ((word, _WORDS[word]),) if word in _WORDS else ()
    return (*own, *_PHRASES.get(word, ()))


def _signs(lowered: str, words: AbstractSet[str]) -> dict[str, float]:
    return {
        term: weight
        for word in sorted(SIGNS & words)
        for term, weight in signs_of(word)
        if term == word or term in lowered
    }


def _capped(terms: dict[str, float]) -> tuple[float, dict[str, float]]:
    whole = sum(terms.values())
    if whole <= MOST:
        return whole, terms
    return MOST, {name: weight * MOST / whole for name, weight in terms.items()}
