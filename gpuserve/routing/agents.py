"""Coding agents, known by what they always send: their prompts, their tags, their tools.

Every turn of a coding agent is about code, also when it is only "yes" or what a tool returned. Any
other agent decides nothing by its prompt's form, however full of JSON and schemas that is.
"""

from collections.abc import Iterator

from gpuserve.routing.tokens import window

# What only a coding agent writes, lower case, and its weight in log-odds: names and tags of
# Cline, Roo, aider, Claude Code, Codex, Cursor, Copilot, OpenHands, SWE-agent, Continue, Zed and
# Windsurf at 5, what such prompts speak of at 2. Not fitted: no public set has enough of them.
_SIGNATURES: tuple[tuple[str, float], ...] = (
    ("<environment_details>", 5.0),
    ("# vscode visible files", 5.0),
    ("search/replace block", 5.0),
    ("you are cline", 5.0),
    ("you are roo", 5.0),
    ("claude code", 5.0),
    ("codex cli", 5.0),
    ("github copilot", 5.0),
    ("<system-reminder>", 5.0),
    ("<open_files>", 5.0),
    ("<open_and_recently_viewed_files>", 5.0),
    ("<file_content", 5.0),
    ("<uploaded_files>", 5.0),
    ("<pr_description>", 5.0),
    ("<write_to_file>", 5.0),
    ("<execute_command>", 5.0),
    ("<read_file>", 5.0),
    ("<replace_in_file>", 5.0),
    ("[read_file for", 5.0),
    ("[execute_command for", 5.0),
    ("[write_to_file for", 5.0),
    ("[replace_in_file for", 5.0),
    ("str_replace_editor", 5.0),
    ("str_replace_based_edit_tool", 5.0),
    ("apply_patch", 5.0),
    ("openhands", 5.0),
    ("swe-agent", 5.0),
    ("coding agent", 5.0),
    ("coding assistant", 5.0),
    ("programming assistant", 5.0),
    ("code assistant", 5.0),
    ("agentic coding", 5.0),
    ("ai pair programmer", 5.0),
    ("pair programming", 5.0),
    ("software engineering", 3.0),
    ("software engineer", 3.0),
    ("software developer", 3.0),
    ("expert programmer", 3.0),
    ("senior developer", 3.0),
    ("codebase", 3.0),
    ("code base", 2.0),
    ("source code", 2.0),
    ("code review", 3.0),
    ("pull request", 2.0),
    ("git repo", 3.0),
    ("repository", 2.0),
    ("current working directory", 3.0),
    ("working directory", 2.0),
    ("workspace root", 3.0),
    ("shell command", 3.0),
    ("bash command", 3.0),
    ("terminal command", 3.0),
    ("unit test", 2.0),
    ("run the tests", 2.0),
    ("linter", 2.0),
    ("the ide", 2.0),
    ("sql quer", 2.0),
    ("write code", 2.0),
    ("edit files", 2.0),
    ("编程助手", 5.0),
    ("代码助手", 5.0),
    ("代码库", 3.0),
    ("コーディング", 3.0),
    ("ассистент программиста", 5.0),
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
    update_plan exec_command write_stdin browser_action find_symbol get_symbols_overview
"""
_TOOLS = frozenset(_TOOL_NAMES.split())
_MOST = 7.0
_TOOL = 5.0


def scene_terms(system: str, tools: tuple[str, ...]) -> dict[str, float]:
    """Return what speaks for a coding agent in a system prompt and names of tools, in log-odds."""
    terms = dict(_signatures(window(system).lower())) if system else {}
    for name in tools:
        if name.lower() in _TOOLS:
            terms[f"tool {name}"] = _TOOL
            break
    return _capped(terms)


def turn_terms(lowered: str) -> dict[str, float]:
    """Return what speaks for a coding agent in the *lowered* text of a user's turn."""
    if "<" not in lowered and "[" not in lowered and "/replace" not in lowered:
        return {}
    strong = (s for s in _signatures(lowered) if s[0][0] in "<[#s" and s[1] >= _TOOL)
    return _capped(dict(strong))


def _signatures(lowered: str) -> Iterator[tuple[str, float]]:
    return ((text, weight) for text, weight in _SIGNATURES if text in lowered)


def _capped(terms: dict[str, float]) -> dict[str, float]:
    whole = sum(terms.values())
    if whole <= _MOST:
        return terms
    return {name: weight * _MOST / whole for name, weight in terms.items()}
