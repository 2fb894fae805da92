"""Prompts of our own with the route that they should take: written for this, quoting nobody."""

from gpuserve.routing.classify import classify
from gpuserve.routing.turns import turns_of

CODE = [
    "Write a Python function that merges two sorted lists",
    "fix this: TypeError: cannot read properties of undefined",
    "why does my for loop never end in C?",
    "How do I undo the last git commit without losing changes?",
    "SELECT name FROM users WHERE age > 30 gives me nothing, why",
    "convert this curl command to axios\ncurl -X POST -d '{}' http://localhost/api",
    '```rust\nfn main() { println!("hi"); }\n```',
    "what does `chmod 755` do",
    "write a Dockerfile for a fastapi app",
    'Traceback (most recent call last):\n  File "a.py", line 3, in <module>\nKeyError: 1',
    "diff --git a/x b/x\n@@ -1 +1 @@\n-a\n+b\nplease review",
    "explain the difference between a mutex and a semaphore",
    "regex for an email address",
    "#include <stdio.h>\nint main() { return 0; }",
    "how to center a div with css",
    "my nginx returns 502, here is the config\nserver {\n  listen 80;\n}",
    "implement quicksort",
    "add unit tests for utils/date.ts",
    "kubectl get pods shows CrashLoopBackOff",
    "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web",
    "find all files larger than 10 MB in the current directory",
    "npm ERR! peer dep missing: react@18",
    "x = [i for i in range(10) if i % 2 == 0]",
    "reverse a string in place",
    "用Python写一个函数，计算斐波那契数列",
    "Java中如何遍历数组？",
    "Pythonでリストの重複を削除する方法を教えてください",
    "파이썬으로 파일을 읽는 함수를 작성해 줘",
    "Напиши функцию на Python, которая сортирует список",
    "как удалить элемент из массива в JavaScript",
    "¿Cómo leer un archivo CSV en Python?",
    "Schreibe eine Funktion in Java, die eine Zeichenkette umkehrt",
    "Écris une fonction qui trie un tableau",
    '{"query": "How do I reverse a string in JavaScript?", "language": "en"}',
]
GENERAL = [
    "Write a short story about a dragon who is afraid of the dark",
    "What is the capital of Australia?",
    "Which articles of the penal code cover theft?",
    "What is the zip code of Beverly Hills?",
    "Is a hoodie fine with a business casual dress code?",
    "Who wrote The Da Vinci Code?",
    "What does a ball python eat?",
    "My pet python has not eaten for three weeks, should I see a vet?",
    "Tell me a joke about programmers",
    "Plan a week of travel on the island of Java, with coffee farms",
    "Write a cover letter for a software engineer position",
    "How do I remove rust from a bike chain?",
    "Summarize this paragraph: The company announced record sales on Monday.",
    "Translate 'good morning' into French",
    "Prove that the square root of 2 is irrational",
    "If a train travels 60 miles per hour, how far does it go in 3 hours?",
    "Give me a recipe for pancakes",
    "Write a poem about autumn leaves",
    "Design a fitness program for a beginner",
    "Write a movie script about two brothers",
    "Which Taylor Swift album is the best?",
    "What is the function of the heart?",
    "Explain how the middle class changed in the 20th century",
    "Do pandas eat anything besides bamboo?",
    "hello",
    "thank you!",
    "写一首关于春天的诗",
    "请把这篇文章翻译成英文",
    "おすすめの旅行先を教えてください",
    "Расскажи историю о драконе",
    "¿Cuál es la capital de Perú?",
    "Erzähl mir einen Witz",
    "Quelle est la recette des crêpes ?",
    '{"query": "Suggest a name for a vegan restaurant", "language": "en", "format": "json"}',
]

# One pair of these is unsure whatever the weights are.
_HALF_CODE = ("sort the list", "read the file", "split the string", "the query", "my server")
_HALF_GENERAL = ("of names", "about a garden", "for my family", "in the story", "please")


def an_unsure_prompt() -> str:
    """Return the prompt, of half programming and half something else, that is most unsure."""

    def sureness(prompt: str) -> float:
        return abs(classify(turns_of({"prompt": prompt})).score - 0.5)

    return min((f"{a} {b}" for a in _HALF_CODE for b in _HALF_GENERAL), key=sureness)
